package speaker

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"netd/reconcile"
	"netd/reconcile/object"
)

// TestReading: what gobgp is set to is not asked for again while nobody changed it, so that no pass waits for what a neighbour
// floods it with; and whatever another client of gobgp's API changes is seen by the next pass, and put right.
func TestReading(t *testing.T) {
	hosts := newHosts(t, 2)
	h := hosts[0]
	h.start()
	w := h.want(hosts)
	h.converge(w)
	if plan := h.converge(w); !plan.Empty() {
		t.Fatalf("the second plan is not empty:\n%s", text(plan))
	}
	conn, err := grpc.NewClient("unix://"+filepath.Join(h.options().Dir(), apiSocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other := api.NewGobgpApiClient(conn)
	foreign, err := apiPath(object.Path{Prefix: netip.MustParsePrefix("10.10.77.0/24"), NextHop: h.addr})
	if err != nil {
		t.Fatal(err)
	}
	addr := hosts[1].addr.String()
	for _, x := range []struct {
		name   string
		change func(context.Context) error
	}{
		{"nothing", nil},
		{"a neighbour is shut down", func(ctx context.Context) error {
			_, err := other.DisablePeer(ctx, &api.DisablePeerRequest{Address: addr})
			return err
		}},
		{"a neighbour is removed", func(ctx context.Context) error {
			_, err := other.DeletePeer(ctx, &api.DeletePeerRequest{Address: addr})
			return err
		}},
		{"a prefix more", func(ctx context.Context) error {
			_, err := other.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: foreign})
			return err
		}},
		{"a prefix more, in a stream", func(ctx context.Context) error {
			s, err := other.AddPathStream(ctx)
			if err != nil {
				return err
			}
			if err := s.Send(&api.AddPathStreamRequest{TableType: api.TableType_GLOBAL, Paths: []*api.Path{foreign}}); err != nil {
				return err
			}
			_, err = s.CloseAndRecv()
			return err
		}},
		{"a prefix less, in a stream that stays open", func(ctx context.Context) error {
			s, err := other.AddPathStream(ctx)
			if err != nil {
				return err
			}
			tell := func(p *api.Path) error {
				return s.Send(&api.AddPathStreamRequest{TableType: api.TableType_GLOBAL, Paths: []*api.Path{p}})
			}
			if err := tell(foreign); err != nil {
				return err
			}
			h.wait("the stream to be read", func() bool { return !h.converge(w).Empty() })
			h.converge(w) // what gobgp answers now is kept
			own := slices.IndexFunc(w.State.Keys(), func(k reconcile.Key) bool { return k.Kind == object.KindPath })
			gone, err := apiPath(w.State[w.State.Keys()[own]].(object.Path))
			if err != nil {
				return err
			}
			gone.IsWithdraw = true
			return tell(gone)
		}},
		{"all is let in", func(ctx context.Context) error {
			_, err := other.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
				Name: globalTable, Direction: api.PolicyDirection_IMPORT, DefaultAction: api.RouteAction_ACCEPT}})
			return err
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.change == nil { // whoever asks gobgp now gets no answer
				h.client.disconnect() // from the real one
				deaf, err := grpc.NewClient("unix:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					t.Fatal(err)
				}
				h.client.mu.Lock()
				h.client.conn = deaf
				h.client.mu.Unlock()
				plan, err := h.engine.Plan(t.Context(), &w, w.State)
				if err != nil || !plan.Empty() {
					t.Errorf("gobgp was asked: %v\n%s", err, text(plan))
				}
				h.client.last.since = time.Now().Add(-believed)
				if _, err := h.engine.Plan(t.Context(), &w, w.State); err == nil {
					t.Error("an old answer is believed")
				}
				h.client.disconnect()
				if err := h.client.connect(hello{Instance: h.client.instance}); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err := x.change(t.Context()); err != nil {
				t.Fatal(err)
			}
			var plan reconcile.Plan
			h.wait("the change to be seen", func() bool { plan = h.converge(w); return !plan.Empty() }) // of a prefix gobgp tells a moment late
			if plan := h.converge(w); !plan.Empty() {
				t.Errorf("put right, and still:\n%s", text(plan))
			}
		})
	}
}
