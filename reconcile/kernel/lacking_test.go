package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// TestNexthopTrouble: a kernel without next hop objects is in the way of who wants some, and of nobody else.
func TestNexthopTrouble(t *testing.T) {
	for _, x := range []struct {
		err    error
		wanted bool
		want   string // "": none
	}{
		{nil, true, ""},
		{unix.EOPNOTSUPP, false, ""},
		{fmt.Errorf("a dump: %w", unix.EOPNOTSUPP), true, "this kernel has no next hop objects"},
		{unix.EPERM, false, "reading next hop objects: operation not permitted"},
		{unix.EPERM, true, "reading next hop objects: operation not permitted"},
	} {
		err := nexthopTrouble(x.err, x.wanted)
		if (err != nil) != (x.want != "") || err != nil && (!strings.Contains(err.Error(), x.want) || !errors.Is(err, x.err) && !errors.Is(err, unix.EOPNOTSUPP)) {
			t.Errorf("%v, wanted %t: %v, want %q", x.err, x.wanted, err, x.want)
		}
	}
}

// TestLackingModules: a chain that the kernel refuses as unknown names the modules that it may lack for it, and no other.
func TestLackingModules(t *testing.T) {
	nat := object.NftChain{Name: "nat", Type: "nat", Rules: "ip saddr @nat-lab masquerade random fully-random"}
	marked := object.NftChain{Name: "forward", Type: "filter", Rules: "ct state established accept"}
	plain := object.NftChain{Name: "spoof", Type: "filter", Rules: "iifname @veths drop"}
	for _, x := range []struct {
		r     reconcile.Resource
		err   error
		names []string
	}{
		{nat, unix.ENOENT, []string{"nft_chain_nat", "nft_masq"}},
		{nat, unix.EOPNOTSUPP, []string{"nft_chain_nat", "nft_masq"}},
		{marked, unix.ENOENT, []string{"nft_ct"}},
		{nat, unix.EPERM, nil},
		{plain, unix.ENOENT, nil},
		{object.NftTable{Family: "inet", Name: "netd"}, unix.ENOENT, nil},
		{nil, unix.ENOENT, nil},
	} {
		got := lacking(x.r, x.err)
		for _, module := range []string{"nft_chain_nat", "nft_masq", "nft_ct"} {
			if strings.Contains(got.Error(), module) != slices.Contains(x.names, module) {
				t.Errorf("%v of %v: %v, want the modules %v", x.err, x.r, got, x.names)
			}
		}
		if !errors.Is(got, x.err) {
			t.Errorf("%v of %v: %v is another error", x.err, x.r, got)
		}
	}
}
