package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestFilterChains: which chain of iptables has to let through what is forwarded.
func TestFilterChains(t *testing.T) {
	netns.Need(t)
	is := func(what, v4, v6 string) {
		t.Helper()
		got4, got6, err := kernel.FilterChains()
		if err != nil || got4 != v4 || got6 != v6 {
			t.Errorf("%s: %q and %q (%v), want %q and %q", what, got4, got6, err, v4, v6)
		}
	}
	is("no iptables", "", "")
	netns.Run(t, "iptables -A FORWARD -i eth9 -j DROP")
	t.Cleanup(func() { netns.Run(t, "nft delete table ip filter") })
	is("a policy to accept: what the host's own rules refuse is refused", "", "")
	netns.Run(t, "iptables -P FORWARD DROP")
	is("a policy to drop", "FORWARD", "")
	netns.Run(t, "iptables -N DOCKER-USER")
	is("a chain that nobody goes to now", "DOCKER-USER FORWARD", "")
	netns.Run(t, "iptables -I FORWARD -j DOCKER-USER")
	is("Docker's", "DOCKER-USER FORWARD", "")
	netns.Run(t, "iptables -A FORWARD -j DROP")
	is("a rule that decides for all", "DOCKER-USER", "")
	netns.Run(t, "iptables -D FORWARD -j DROP")
	netns.Run(t, "ip6tables -P FORWARD DROP")
	t.Cleanup(func() { netns.Run(t, "nft delete table ip6 filter") })
	is("IPv6 too", "DOCKER-USER FORWARD", "FORWARD")
	netns.Run(t, "iptables -P FORWARD ACCEPT")
	is("Docker's, which drops nothing by policy", "DOCKER-USER", "FORWARD")
}

// TestForeignRules: rules of others in the same chains stay, whatever they look like, and netd's go with it.
func TestForeignRules(t *testing.T) {
	filterDrops(t)
	for _, rule := range []string{
		"-s 10.10.0.0/16 -i netd+ -o ens33 -j ACCEPT", // netd's, without its comment
		"-i netd+ -o netd+ -m comment --comment netd2 -j ACCEPT",
		"-p tcp --dport 80 -m conntrack --ctstate NEW -j LOG",
		"-d 10.10.40.128/26 -j REJECT",
	} {
		netns.Run(t, "iptables -A FORWARD "+rule)
	}
	before := netns.Run(t, "iptables -S")
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	with := netns.Run(t, "iptables -S")
	if !strings.HasPrefix(with, before) || strings.Count(with, "--comment netd ") != 6 {
		t.Errorf("netd's rules are to stand behind the others:\n%s", with)
	}
	if again := h.plan(); !again.Empty() {
		t.Errorf("the second plan is not empty:\n%s", text(again))
	}
	kind := h.kind(object.KindAccept)
	own, _, err := kind.List(t.Context(), nil)
	if err != nil || len(own) != 6 {
		t.Errorf("%d are netd's (%v), want 6", len(own), err)
	}
	for _, r := range own {
		if err := kind.Delete(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if after := netns.Run(t, "iptables -S"); after != before {
		t.Errorf("left:\n%swant:\n%s", after, before)
	}
}

// TestSpelling: each form of a rule comes back from the kernel as it was written, and after iptables itself wrote it.
func TestSpelling(t *testing.T) {
	filterDrops(t)
	netns.Run(t, "ip6tables -P FORWARD DROP")
	t.Cleanup(func() { netns.Run(t, "nft delete table ip6 filter") })
	h := newHost(t, config.ModeVXLAN)
	kind := h.kind(object.KindAccept)
	for _, x := range []struct {
		iptables string
		rule     object.Accept
	}{
		{"iptables", object.Accept{Family: "ip", In: "netd+", Out: "netd+"}},
		{"iptables", object.Accept{Family: "ip", In: "netd+", Out: "a-name-of-15-ch", Src: netip.MustParsePrefix("10.10.40.128/26")}},
		{"iptables", object.Accept{Family: "ip", In: "ens33", Out: "netd+", Dst: netip.MustParsePrefix("10.0.0.0/8"), Established: true}},
		{"iptables", object.Accept{Family: "ip", In: "ens33", Src: netip.MustParsePrefix("10.10.40.129/32"), Dst: netip.MustParsePrefix("10.10.0.0/16")}},
		{"ip6tables", object.Accept{Family: "ip6", In: "netd+", Out: "ens33", Src: netip.MustParsePrefix("fd00:10::/48")}},
		{"ip6tables", object.Accept{Family: "ip6", In: "ens33", Out: "netd+", Dst: netip.MustParsePrefix("fd00:10:0:28::/61"), Established: true}},
		{"ip6tables", object.Accept{Family: "ip6", In: "ens33", Dst: netip.MustParsePrefix("fd00:10::7/128")}},
	} {
		x.rule.Chain = "FORWARD"
		is := func(who string) {
			t.Helper()
			own, _, err := kind.List(t.Context(), nil)
			if err != nil || len(own) != 1 || own[0] != x.rule {
				t.Errorf("%s: %+v (%v), want %+v", who, own, err, x.rule)
			}
		}
		if err := kind.Create(t.Context(), x.rule); err != nil {
			t.Fatal(err)
		}
		is("netd")
		line := netns.Run(t, x.iptables+" -S FORWARD")
		if x.rule.Established != strings.Contains(line, "-m conntrack --ctstate RELATED,ESTABLISHED ") {
			t.Errorf("%+v is\n%s", x.rule, line)
		}
		_, rule, _ := strings.Cut(strings.TrimSpace(line), "\n")
		if err := kind.Delete(t.Context(), x.rule); err != nil {
			t.Fatal(err)
		}
		netns.Run(t, x.iptables+" "+rule)
		is(x.iptables)
		if again := netns.Run(t, x.iptables+" -S FORWARD"); again != line {
			t.Errorf("%s says\n%safter\n%s", x.iptables, again, line)
		}
		if err := kind.Delete(t.Context(), x.rule); err != nil {
			t.Fatal(err)
		}
	}
}
