package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLacking is of kernels that lack something: this one speaks no IPv6 (ipv6.disable=1), and gets its modules one after the
// other. What is missing is named, and where nothing else stood before it nothing is touched; a file without IPv6 needs none.
func TestLacking(t *testing.T) {
	if later, _ := filepath.Glob("/later/*.ko"); os.Getenv("NETD_GUEST") == "" || len(later) == 0 {
		t.Skip("needs a kernel that lacks modules and IPv6: it runs in a guest of its own (make vm)")
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		t.Fatal("this guest speaks IPv6")
	}
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	untouched := func(what string) {
		t.Helper()
		for _, command := range []string{"ip -o link show group 142", "ip route show proto 142", "sysctl -n net.ipv4.conf.ens33.forwarding"} {
			if out := strings.TrimSpace(h.Run(t, command)); out != "" && out != "0" {
				t.Errorf("%s, and yet %s:\n%s", what, command, out)
			}
		}
	}
	refused := func(words string, commands ...string) {
		t.Helper()
		for _, command := range commands {
			if out := h.must(exitFailed, strings.Fields(command)...); strings.Count(out, words) != 1 {
				t.Errorf("%s: want %q once in:\n%s", command, words, out)
			}
		}
	}

	refused("this kernel has no nftables (module nf_tables", "plan", "apply -y", "destroy -y", "run")
	untouched("without nf_tables")
	loadLater(t, "nf_tables")
	refused("this kernel may lack what the chain needs (modules nft_chain_nat, nft_masq)", "apply -y")
	loadLater(t, "nft_")
	refused("this kernel has no vxlan (module vxlan)", "apply -y")
	loadLater(t, "vxlan")
	for _, h := range l.hosts {
		h.must(0, "apply", "-y")
		if out := h.must(0, "plan"); !strings.Contains(out, "No changes.") || strings.Contains(strings.ToLower(out), "ipv6") {
			t.Errorf("the plan after apply:\n%s", out)
		}
	}
	l.reach()

	l.mode("bgp")
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	l.reach()

	h.file = filepath.Join(h.dir, "six.hcl")
	six := strings.Replace(walkthrough, `["10.10.0.0/16"]`, `["10.10.0.0/16", "fd00:10::/48"]`, 1)
	if err := os.WriteFile(h.file, []byte(strings.Replace(six, "%s", "vxlan", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := h.netd("plan"); code == 0 || !strings.Contains(out, "the kernel of this host speaks no IPv6") {
		t.Errorf("a file with IPv6: exit code %d:\n%s", code, out)
	}
	h.file = ""
}

// loadLater loads the modules that the guest was started without and whose names begin so.
func loadLater(t *testing.T, prefix string) {
	t.Helper()
	list, err := filepath.Glob("/later/*-" + prefix + "*.ko")
	if err != nil || len(list) == 0 {
		t.Fatalf("the guest has no module %s…: %v", prefix, err)
	}
	slices.Sort(list) // each behind those that it depends on
	for _, path := range list {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close()
		if err != nil {
			t.Fatalf("loading %s: %v", path, err)
		}
	}
}
