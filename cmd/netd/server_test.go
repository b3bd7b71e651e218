package main

import (
	"context"
	"errors"
	"testing"

	"netd/reconcile/workload"
)

// TestClientGoesAway: what the loop has begun for a client it carries through, and nobody reads the answer before it is
// whole. What it has not begun is left.
func TestClientGoesAway(t *testing.T) {
	d := &daemonState{calls: make(chan func(context.Context)), host: &host{core: &workload.Core{}}}
	answer, written := "", false
	ask := onLoop(d, func(ctx context.Context, _ request) (string, error) {
		answer, written = "half", true
		if ctx.Err() != nil {
			t.Error("the loop's work ends with its client")
		}
		answer = "whole"
		return answer, nil
	})
	gone, leave := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if v, err := ask(gone, request{}); err != nil || v != "whole" {
			t.Errorf("the answer is %v, %v", v, err)
		}
	}()
	call := <-d.calls
	leave()
	select { // as a client's handler would, were it to return before the loop
	case <-done:
		t.Error("the handler returned before the loop was done")
	default:
	}
	call(context.Background())
	<-done
	if answer != "whole" {
		t.Errorf("the loop's work is %q", answer)
	}

	written = false
	if _, err := ask(gone, request{}); !errors.Is(err, context.Canceled) || written {
		t.Errorf("a call that the loop never took: %v, begun: %v", err, written)
	}
}
