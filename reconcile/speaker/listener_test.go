package speaker

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
)

// TestKillListener: who listens on paths.sock is ended where it is of the user that the folder is of, and only there. The
// kernel tells who called listen, not who serves: a speaker that fell may have had that end, and another process of root's
// may have its number since.
func TestKillListener(t *testing.T) {
	netns.Need(t)
	for _, x := range []struct {
		name  string
		owner int // of the folder
		dies  bool
	}{{"of the folder's user", os.Getuid(), true}, {"of another user", nobody, false}} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			socat := exec.CommandContext(ctx, "socat", "UNIX-LISTEN:"+filepath.Join(dir, pathsSocket)+",fork", "EXEC:cat")
			if err := socat.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- socat.Wait() }()
			defer func() {
				cancel()
				<-ended
			}()
			if err := answers(ctx, filepath.Join(dir, pathsSocket), nil); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, x.owner, x.owner); err != nil {
				t.Fatal(err)
			}
			err := killListener(dir)
			if !x.dies {
				if err == nil {
					t.Error("a process of another user was ended")
				}
				if err := socat.Process.Signal(syscall.Signal(0)); err != nil {
					t.Errorf("it is gone: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			err = <-ended
			ended <- err
			if ctx.Err() != nil {
				t.Errorf("it was not ended: %v", err)
			}
		})
	}
}
