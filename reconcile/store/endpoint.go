package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.etcd.io/bbolt"

	"netd/reconcile/object"
)

var (
	endpointBucket = []byte("endpoint") // id → Endpoint, JSON
	addressBucket  = []byte("address")  // 4 or 16 bytes → when freed, 8 bytes; holder, NUL, sticky
)

// Endpoint is a container that a runtime had attached: what is known of it that nothing else knows.
type Endpoint struct {
	ID        object.Place  `json:"id"`
	Owner     string        `json:"owner"`     // the runtime's protocol: "cni", "docker"
	Container string        `json:"container"` // its id there
	Sticky    string        `json:"sticky"`    // who it is when it comes back: what its address is kept for
	Name      string        `json:"name,omitempty"`
	Group     string        `json:"group,omitempty"`    // what the runtime calls the network
	Netns     string        `json:"netns,omitempty"`    // path by which its namespace is found again
	Identity  string        `json:"identity,omitempty"` // which namespace that is: another one may come to stand at the path
	Interface string        `json:"interface"`
	IPv4      netip.Addr    `json:"ipv4,omitzero"`
	IPv6      netip.Addr    `json:"ipv6,omitzero"`
	MAC       string        `json:"mac"`
	MTU       int           `json:"mtu,omitempty"` // at most; 0: the network's
	Network   string        `json:"network"`
	Beside    bool          `json:"beside,omitempty"` // its namespace has a default route by another endpoint already
	Second    bool          `json:"second,omitempty"` // its runtime was told of no gateway by it, since another endpoint had that
	Since     time.Time     `json:"since"`
	Ports     []object.Port `json:"ports,omitempty"`   // that this host publishes for it
	Asked     []object.Port `json:"asked,omitempty"`   // that its container is to have published, by whichever endpoint has the default route
	Leaving   bool          `json:"leaving,omitempty"` // detached for its runtime; what is left of it has its addresses
}

// Addrs are the addresses that it holds, IPv4 first.
func (e Endpoint) Addrs() []netip.Addr { return e.Object().Addrs() }

// Object is the endpoint as the desired state takes it.
func (e Endpoint) Object() object.Endpoint {
	mac, _ := object.ParseMAC(e.MAC)
	return object.Endpoint{ID: e.ID, Name: e.Name, Netns: e.Netns, Interface: e.Interface, IPv4: e.IPv4, IPv6: e.IPv6, MAC: mac, MTU: e.MTU, Network: e.Network, Beside: e.Beside, Second: e.Second,
		Handed: e.Owner == "docker", Ports: e.Ports}
}

// Address is what is remembered of an address that was handed out once.
type Address struct {
	Holder object.Place // the endpoint that has it; empty: free
	Sticky string       // who has it or had it last, and gets it again if it comes back
	Freed  uint64       // when it was given back, as a number that only grows; clocks jump
}

// Tx is a transaction on endpoints and addresses: all of it is on disk when Update returns, or none.
type Tx struct{ tx *bbolt.Tx }

// Update runs f in one transaction, which costs one synchronous write whatever f does. An error of f undoes it all.
func (d *DB) Update(f func(Tx) error) error {
	if err := d.db.Update(func(tx *bbolt.Tx) error { return f(Tx{tx}) }); err != nil {
		return fmt.Errorf("writing %s: %w", d.db.Path(), advised(err, d.dir, "--state-dir"))
	}
	return nil
}

// View runs f on what is on disk now.
func (d *DB) View(f func(Tx) error) error {
	if d.db == nil {
		return nil
	}
	return d.db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(endpointBucket) == nil { // made by an older netd, opened to read
			return nil
		}
		return f(Tx{tx})
	})
}

// Endpoint is the endpoint of that id.
func (t Tx) Endpoint(id object.Place) (e Endpoint, ok bool, err error) {
	b := t.tx.Bucket(endpointBucket).Get([]byte(id))
	if b == nil {
		return e, false, nil
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, false, fmt.Errorf("endpoint %s: %w", id, err)
	}
	return e, true, nil
}

// Endpoints calls f with each endpoint, in the order of their ids.
func (t Tx) Endpoints(f func(Endpoint) error) error {
	return t.tx.Bucket(endpointBucket).ForEach(func(k, v []byte) error {
		var e Endpoint
		if err := json.Unmarshal(v, &e); err != nil {
			return fmt.Errorf("endpoint %s: %w", k, err)
		}
		return f(e)
	})
}

// Put keeps an endpoint and makes it the holder of its addresses. One that someone else holds is an error.
func (t Tx) Put(e Endpoint) error {
	for _, a := range e.Addrs() {
		held, _, err := t.Address(a)
		if err != nil {
			return err
		}
		if held.Holder != "" && held.Holder != e.ID {
			return fmt.Errorf("%s is held by %s", a, held.Holder)
		}
		if held.Holder != e.ID {
			if err := t.putAddress(a, Address{Holder: e.ID, Sticky: e.Sticky}); err != nil {
				return err
			}
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return t.tx.Bucket(endpointBucket).Put([]byte(e.ID), b)
}

// Delete forgets an endpoint and frees its addresses. One that is not there is no error.
func (t Tx) Delete(id object.Place) error {
	e, ok, err := t.Endpoint(id)
	if err != nil || !ok {
		return err
	}
	addresses := t.tx.Bucket(addressBucket)
	for _, a := range e.Addrs() {
		held, _, err := t.Address(a)
		if err != nil {
			return err
		}
		if held.Holder != id {
			continue
		}
		n, err := addresses.NextSequence()
		if err != nil {
			return err
		}
		if err := t.putAddress(a, Address{Sticky: e.Sticky, Freed: n}); err != nil {
			return err
		}
	}
	return t.tx.Bucket(endpointBucket).Delete([]byte(id))
}

// Address is what is remembered of an address; the zero value where it was never handed out.
func (t Tx) Address(a netip.Addr) (out Address, ok bool, err error) {
	b := t.tx.Bucket(addressBucket).Get(a.AsSlice())
	if b == nil {
		return out, false, nil
	}
	if out, err = decodeAddress(b); err != nil {
		return out, false, fmt.Errorf("address %s: %w", a, err)
	}
	return out, true, nil
}

// Addresses calls f with each address of a prefix that was ever handed out, in order, until f says stop.
func (t Tx) Addresses(p netip.Prefix, f func(netip.Addr, Address) (more bool)) error {
	c := t.tx.Bucket(addressBucket).Cursor()
	first := p.Masked().Addr().AsSlice()
	for k, v := c.Seek(first); k != nil; k, v = c.Next() {
		a, ok := netip.AddrFromSlice(k)
		if !ok || a.BitLen() != p.Addr().BitLen() { // the other family's lie between
			continue
		}
		if !p.Contains(a) {
			return nil
		}
		x, err := decodeAddress(v)
		if err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
		if !f(a, x) {
			return nil
		}
	}
	return nil
}

func (t Tx) putAddress(a netip.Addr, x Address) error {
	b := binary.BigEndian.AppendUint64(nil, x.Freed)
	b = append(append(append(b, x.Holder...), 0), x.Sticky...)
	return t.tx.Bucket(addressBucket).Put(a.AsSlice(), b)
}

// decodeAddress: a block may have 65,000 addresses, all of which are looked at when it is full.
func decodeAddress(b []byte) (x Address, err error) {
	if len(b) < 9 {
		return x, fmt.Errorf("%d bytes", len(b))
	}
	holder, sticky, ok := bytes.Cut(b[8:], []byte{0})
	if !ok {
		return x, errors.New("no end of the holder")
	}
	return Address{Holder: object.Place(holder), Sticky: string(sticky), Freed: binary.BigEndian.Uint64(b)}, nil
}
