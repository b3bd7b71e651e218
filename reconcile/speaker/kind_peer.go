package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile"
	"netd/reconcile/object"
)

// peerKind is the neighbours.
type peerKind struct{ c *Client }

func (k peerKind) Name() string { return object.KindPeer }

func (k peerKind) List(ctx context.Context, _ []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	k.c.reads.Lock()
	defer k.c.reads.Unlock()
	r, err := k.c.reading(ctx)
	if err != nil {
		return nil, nil, err
	}
	peers, err := r.neighbours(ctx, k.c.secrets.Fingerprint)
	if err != nil || len(peers) == 0 {
		return nil, nil, err
	}
	policy, err := r.policy(ctx)
	if err != nil {
		return nil, nil, err
	}
	own := make([]reconcile.Resource, 0, len(peers))
	for _, p := range peers {
		own = append(own, withPolicy(p, policy.of[p.Addr]))
	}
	return own, nil, nil
}

// Passwords are the fingerprints of the passwords that the speaker's neighbours have.
func (c *Client) Passwords(ctx context.Context) (map[netip.Addr]string, error) {
	have, _, err := peerKind{c}.List(ctx, nil)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, r := range have {
		if p := r.(object.Peer); p.Password != "" {
			out[p.Addr] = p.Password
		}
	}
	return out, nil
}

func (k peerKind) Create(ctx context.Context, want reconcile.Resource) error {
	return k.Batch(ctx, []reconcile.Change{{Op: reconcile.Create, Want: want}})[0]
}

func (k peerKind) Update(ctx context.Context, have, want reconcile.Resource) error {
	return k.Batch(ctx, []reconcile.Change{{Op: reconcile.Update, Have: have, Want: want}})[0]
}

func (k peerKind) Delete(ctx context.Context, have reconcile.Resource) error {
	return k.Batch(ctx, []reconcile.Change{{Op: reconcile.Delete, Have: have}})[0]
}

// Batch writes the policies for all changes at once, and before the first of them: a neighbour never has a moment in which
// it may announce more than it should, or is told more.
func (k peerKind) Batch(ctx context.Context, changes []reconcile.Change) []error {
	errs := make([]error, len(changes))
	b, err := k.begin(ctx, changes)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	for i, c := range changes {
		ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
		switch c.Op {
		case reconcile.Create:
			errs[i] = b.add(ctx, c.Want.(object.Peer))
		case reconcile.Update:
			errs[i] = b.update(ctx, c.Have.(object.Peer), c.Want.(object.Peer))
		case reconcile.Delete:
			errs[i] = b.delete(ctx, c.Have.(object.Peer))
		}
		cancel()
	}
	return errs
}

type peerBatch struct {
	gobgp      api.GobgpApiClient
	secrets    Secrets
	restarting bool
}

func (k peerKind) begin(ctx context.Context, changes []reconcile.Change) (peerBatch, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	b := peerBatch{secrets: k.c.secrets}
	var err error
	if b.gobgp, err = k.c.gobgp(); err != nil {
		return b, err
	}
	if b.restarting, err = k.c.fresh(ctx); err != nil {
		return b, err
	}
	k.c.reads.Lock()
	defer k.c.reads.Unlock()
	r, err := k.c.reading(ctx)
	if err != nil {
		return b, err
	}
	policy, err := r.policy(ctx)
	if err != nil {
		return b, err
	}
	of := maps.Clone(policy.of)
	for _, c := range changes {
		if c.Op == reconcile.Delete {
			delete(of, c.Have.(object.Peer).Addr)
			continue
		}
		p := c.Want.(object.Peer)
		of[p.Addr] = policyOf(p)
	}
	if maps.Equal(of, policy.of) && policy.refuses {
		return b, nil
	}
	return b, writePolicies(ctx, b.gobgp, of)
}

func (b peerBatch) add(ctx context.Context, p object.Peer) error {
	secret, err := b.secrets.secret(p.Password)
	if err != nil {
		return fmt.Errorf("adding the neighbour: %w", err)
	}
	if _, err := b.gobgp.AddPeer(ctx, &api.AddPeerRequest{Peer: apiPeer(p, secret, b.restarting)}); err != nil {
		return fmt.Errorf("adding the neighbour: %w", err)
	}
	return nil
}

// update changes what can be changed in place (object.Peer.Replaces). UpdatePeer is called only where gobgp needs it: it rewrites
// more than it is asked for (see remember).
func (b peerBatch) update(ctx context.Context, have, want object.Peer) error {
	addr := want.Addr.String()
	same := withPolicy(have, want)
	same.Up = want.Up
	if same != want {
		secret, err := b.secrets.secret(want.Password)
		if err != nil {
			return fmt.Errorf("changing the neighbour: %w", err)
		}
		if _, err := b.gobgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(want, secret, false)}); err != nil {
			return fmt.Errorf("changing the neighbour: %w", err)
		}
	}
	if have.Up != want.Up {
		var err error
		if want.Up {
			_, err = b.gobgp.EnablePeer(ctx, &api.EnablePeerRequest{Address: addr})
		} else {
			_, err = b.gobgp.DisablePeer(ctx, &api.DisablePeerRequest{Address: addr})
		}
		if err != nil {
			return fmt.Errorf("switching the neighbour: %w", err)
		}
	}
	if have.Import != want.Import || have.Except != want.Except || have.NextHops != want.NextHops || have.FirstAS != want.FirstAS || have.LocalPref != want.LocalPref {
		if err := reconsider(ctx, b.gobgp, addr); err != nil {
			return err
		}
	}
	if have.Transit != want.Transit || have.Self != want.Self || have.Self6 != want.Self6 || have.KeepNextHop != want.KeepNextHop ||
		have.Communities != want.Communities || have.Prepend != want.Prepend {
		return tellAgain(ctx, b.gobgp, addr)
	}
	return nil
}

func (b peerBatch) delete(ctx context.Context, p object.Peer) error {
	there, err := b.there(ctx, p.Addr)
	if err != nil || !there {
		return err
	}
	if p.Password != "" {
		// DeletePeer leaves the password on the listener, where it would meet a later neighbour of this address that has
		// none. An update to no password takes it off.
		p.Password = ""
		if _, err := b.gobgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(p, "", false)}); err != nil {
			return fmt.Errorf("taking the password off: %w", err)
		}
	}
	if _, err := b.gobgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: p.Addr.String()}); err != nil {
		return fmt.Errorf("removing the neighbour: %w", err)
	}
	return nil
}

func (b peerBatch) there(ctx context.Context, addr netip.Addr) (bool, error) {
	stream, err := b.gobgp.ListPeer(ctx, &api.ListPeerRequest{Address: addr.String()})
	if err != nil {
		return false, fmt.Errorf("removing the neighbour: %w", err)
	}
	peers, err := collect(stream, (*api.ListPeerResponse).GetPeer)
	if err != nil {
		return false, fmt.Errorf("removing the neighbour: %w", err)
	}
	return len(peers) > 0, nil
}
