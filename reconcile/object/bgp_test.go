package object

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"netd/reconcile"
)

var (
	master = netip.MustParseAddr("192.168.170.137")
	node   = netip.MustParseAddr("192.168.170.138")
)

func somePeer() Peer {
	return Peer{Addr: node, ASN: 64512, Local: master, Port: 179, Opens: Listens, TTLSecurity: true, HoldTime: 9 * time.Second,
		Keepalive: 3 * time.Second, GracefulRestart: 2 * time.Minute, Up: true, Import: "10.10.194.128/26"}
}

// TestBGPFields walks every attribute: one that differs must show, or a plan would print a change of nothing.
func TestBGPFields(t *testing.T) {
	for _, r := range []reconcile.Resource{
		BGP{ASN: 64512, RouterID: master, Listen: master, Port: 179, Multipath: true, Refuse: true},
		somePeer(),
		Path{Prefix: netip.MustParsePrefix("10.10.40.128/26"), NextHop: master},
	} {
		v := reflect.ValueOf(r)
		for i := range v.NumField() {
			other := reflect.New(v.Type()).Elem()
			other.Set(v)
			f := other.Field(i)
			switch x := f.Interface().(type) {
			case bool:
				f.SetBool(!x)
			case uint32:
				f.SetUint(uint64(x) + 1)
			case uint16:
				f.SetUint(uint64(x) + 1)
			case time.Duration:
				f.SetInt(int64(x + time.Second))
			case netip.Addr:
				f.Set(reflect.ValueOf(x.Next()))
			case netip.Prefix:
				f.Set(reflect.ValueOf(netip.PrefixFrom(x.Addr(), x.Bits()+1)))
			case string:
				f.SetString(x + "x")
			case Opens:
				f.SetString(string(x) + "x")
			default:
				t.Fatalf("%T.%s: the test does not know the type %T", r, v.Type().Field(i).Name, x)
			}
			changed := other.Interface().(reconcile.Resource)
			if changed.Key() == r.Key() && reconcile.Difference(r, changed) == "" {
				t.Errorf("%T.%s differs and no field shows it", r, v.Type().Field(i).Name)
			}
		}
	}
}

func TestPeerReplaces(t *testing.T) {
	for _, c := range []struct {
		name string
		to   func(*Peer)
		want bool
	}{
		{"password", func(p *Peer) { p.Password = "aabbccdd" }, true},
		{"AS", func(p *Peer) { p.ASN++ }, true},
		{"who dials", func(p *Peer) { p.Opens = Dials }, true},
		{"graceful restart", func(p *Peer) { p.GracefulRestart = 0 }, true},
		{"hold time", func(p *Peer) { p.HoldTime = time.Minute }, false},
		{"import", func(p *Peer) { p.Import = "" }, false},
		{"TTL", func(p *Peer) { p.TTLSecurity = false }, false},
		{"shut down", func(p *Peer) { p.Up = false }, false},
	} {
		p := somePeer()
		c.to(&p)
		if got := p.Replaces(somePeer()); got != c.want {
			t.Errorf("%s: a new session is needed: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPrefixList(t *testing.T) {
	in := []netip.Prefix{netip.MustParsePrefix("10.10.194.128/26"), netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.10.194.128/26")}
	list := PrefixList(in)
	if want := "10.1.0.0/24 10.10.194.128/26"; list != want {
		t.Errorf("got %q, want %q", list, want)
	}
	back, err := ParsePrefixList(list)
	if err != nil || PrefixList(back) != list {
		t.Errorf("read back: %v, %v", back, err)
	}
	if _, err := ParsePrefixList("10.1.0.0/24 nonsense"); err == nil {
		t.Error("nonsense was taken for a prefix")
	}
}
