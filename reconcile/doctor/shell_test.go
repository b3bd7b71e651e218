package doctor

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netd/reconcile/object"
)

// hostile is a link's name as the kernel takes it: it may hold anything but a slash, a colon and blanks.
const hostile = `';>pwn;'"$(>q)`

// TestHostileNames: what others name is one word of each command that doctor gives, and nothing of it is run.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// Programs that write down what they are given, a word a line.
	for _, name := range []string{"ip", "nft", "iptables", "iptables-legacy", "ufw", "firewall-cmd", "mkdir", "grep"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\" >>"+filepath.Join(dir, "said")+"\n[ \"${0##*/}\" != mkdir ]\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	addr := netip.MustParseAddr
	named := func(objects string) map[string]string { // a chain with such a name
		return nft(strings.ReplaceAll(objects, `"x"`, `"`+strings.ReplaceAll(hostile, `"`, `\"`)+`"`))
	}
	conf := "/proc/sys/net/ipv4/conf/" + hostile
	for _, x := range []struct {
		name, check, mode string
		host              recorded
		says              string // a word of the command's; empty: it is where the shell writes to
	}{
		{"no address", "address", "vxlan", recorded{}, hostile},
		{"another prefix", "address", "vxlan", recorded{held: "192.168.170.137/16"}, ""},
		{"it does not forward", "forwarding", "vxlan", recorded{files: map[string]string{conf + "/forwarding": "0"}}, ""},
		{"it is strict while two modes are received", "rp-filter", "vxlan\"\n  receive = [\"bgp\"] # ", recorded{files: map[string]string{conf + "/rp_filter": "1"}}, ""},
		{"a line of sysctl.d", "new-links", "vxlan", recorded{files: map[string]string{"/etc/sysctl.d/9.conf": "net.ipv4.conf.*.forwarding = 0"}}, "/etc/sysctl.d"},
		{"a route of others by it", "foreign-routes", "bgp", recorded{routes: []object.Held{{Dst: netip.MustParsePrefix("10.10.7.0/24"), Dev: hostile, Table: 254}}}, hostile},
		{"a small path by it", "path-mtu", "vxlan", recorded{paths: []Path{{MTU: 1400, Link: hostile, LinkMTU: 1500}}}, hostile},
		{"an address twice", "duplicate-address", "vxlan", recorded{claims: map[netip.Addr][]object.MAC{addr("192.168.170.137"): {{2, 0, 0, 0, 0, 9}}}}, "192.168.170.137"},
		{"a reject of iptables", "firewall", "vxlan", recorded{programs: nft(strings.Replace(strings.NewReplacer("inet", "ip", "strict", "filter", `"x"`, `"FORWARD"`).Replace(strict("forward", "")), "drop", "accept", 1) +
			`,{"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":9,"expr":[{"xt":{"type":"target","name":"REJECT"}}]}}`)}, hostile},
		{"ufw rejects", "firewall", "vxlan", recorded{programs: nft(ufw + `,{"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":6,"expr":[{"jump":{"target":"ufw-reject-forward"}}]}},
{"rule":{"family":"ip","table":"filter","chain":"ufw-reject-forward","handle":7,"expr":[{"xt":{"type":"target","name":"REJECT"}}]}}`)}, hostile},
		{"firewalld rejects", "firewall", "vxlan", recorded{programs: nft(firewalld)}, "--get-zone-of-interface=" + hostile},
		{"a chain that drops", "firewall", "vxlan", recorded{programs: named(strict("forward", ""))}, hostile},
		{"a chain that lets nobody in", "firewall", "vxlan", recorded{programs: named(strict("input", ""))}, hostile},
		{"a chain that masquerades", "masquerade", "bgp", recorded{programs: named(strings.ReplaceAll(postrouting(`{"masquerade":null}`), `"POST"`, `"x"`))}, hostile},
		{"a chain that drops raw", "raw-drops", "vxlan", recorded{programs: named(`{"chain":{"family":"ip","table":"raw","name":"x","hook":"prerouting","prio":-300,"policy":"accept"}},{"rule":{"family":"ip","table":"raw","chain":"x","handle":3,"expr":[{"drop":null}]}}`)}, hostile},
		{"legacy drops", "legacy-iptables", "vxlan", recorded{files: map[string]string{"/proc/net/ip_tables_names": "filter\n"}, programs: map[string]string{"iptables-legacy -S FORWARD": "-P FORWARD DROP\n"}}, hostile},
	} {
		s := site(t, x.mode, x.host)
		s.Link, s.Applied = hostile, true
		if x.host.held != "" {
			p := netip.MustParsePrefix(x.host.held)
			s.Held, s.Holder = map[netip.Addr]netip.Prefix{p.Addr(): p}, map[netip.Addr]string{p.Addr(): hostile}
		}
		i := slices.IndexFunc(Checks, func(c Check) bool { return c.Name == x.check })
		_ = os.Remove(filepath.Join(dir, "said"))
		typed := 0
		for _, f := range Checks[i].Run(context.Background(), s) {
			if f.Level == OK {
				continue
			}
			typed++
			cmd := exec.Command("/bin/sh", "-c", f.Fix)
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + bin}
			out, err := cmd.CombinedOutput()
			if x.says == "" && (err == nil || !strings.Contains(string(out), "/proc/sys/net/ipv4/conf/"+hostile+"/")) { // there is no such link
				t.Errorf("%s: %s: %v: %s", x.name, f.Fix, err, out)
			}
			if strings.Contains(string(out), "yntax") || strings.Contains(string(out), "nterminated") {
				t.Errorf("%s: %s: %s", x.name, f.Fix, out)
			}
		}
		said, _ := os.ReadFile(filepath.Join(dir, "said"))
		if x.says != "" && !slices.Contains(strings.Split(string(said), "\n"), x.says) || typed == 0 {
			t.Errorf("%s: %d commands, which say\n%s", x.name, typed, said)
		}
		for _, name := range []string{"pwn", "q"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Fatalf("%s: a part of the name was run", x.name)
			}
		}
	}
}

// TestWord: what sh makes of a word is the text again, and what needs no quotes has none.
func TestWord(t *testing.T) {
	for _, text := range []string{"", "ens33", "vxlan.netd", "a b", hostile, "$(id)", "`id`", `\`, "*", "~", "-n", "\n", "é", "'", "#", "!x"} {
		out, err := exec.Command("sh", "-c", "printf '%s|' "+word(text)).Output()
		if err != nil || string(out) != text+"|" {
			t.Errorf("%q: %v: %q", text, err, out)
		}
		name := filepath.Join(t.TempDir(), "a file")
		if out, err := exec.Command("sh", "-ec", put(name, "% \\n "+text+"\n")).CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", text, err, out)
		}
		if got, _ := os.ReadFile(name); string(got) != "% \\n "+text+"\n" {
			t.Errorf("a file with %q: %q", text, got)
		}
	}
	if got := word("/etc/netd/a-b_c.d"); got != "/etc/netd/a-b_c.d" {
		t.Error(got)
	}
}
