package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"netd/reconcile/doctor"
)

// doctorLabs are the tests that make the fault of a check, see it named, mend it by doctor's own command and see it gone, with
// how they run where that is not `make test`; and what of a check's fixes no lab runs, with the reason.
var doctorLabs = map[string]struct{ tests, not string }{
	"module":            {"TestDoctorGuest (make vm)", "the package of a module: the guests boot a kernel that is not on their disk"},
	"address":           {"TestDoctor TestDoctorAddress `doctor.sh` (make packages)", ""},
	"forwarding":        {"TestDoctor", ""},
	"new-links":         {"TestDoctorNewLinks", ""},
	"rp-filter":         {"TestDoctor", ""},
	"neighbours":        {"TestDoctorNeighbours TestDoctorGuest (make vm) `doctor.sh` (make packages)", ""},
	"udp-port":          {"TestDoctor `doctor.sh` (make packages)", ""},
	"bgp-port":          {"TestDoctor `doctor.sh` (make packages)", ""},
	"password-file":     {"TestDoctorPasswords", ""},
	"foreign-routes":    {"TestDoctor", ""},
	"networkd":          {"TestDoctorNetworkd `doctor.sh` (make packages)", ""},
	"networkmanager":    {"TestDoctorNetworkManager (make firewalls)", ""},
	"forward-policy":    {"TestDoctor TestFirewalls (make firewalls)", ""},
	"firewall":          {"TestDoctor TestFirewalls (make firewalls) TestDockerNftables (make docker-nftables) `doctor.sh` (make packages)", ""},
	"masquerade":        {"TestDoctor", ""},
	"raw-drops":         {"TestDoctor", ""},
	"legacy-iptables":   {"TestDoctor `doctor.sh` (make packages)", ""},
	"duplicate-address": {"TestDoctor TestDoctor6", ""},
	"clocks":            {"TestDoctorClocks TestDoctorGuest (make vm) `doctor.sh` (make packages)", "`dnf`: nothing here runs Fedora or RHEL"},
	"path-mtu":          {"TestDoctor TestDoctor6", ""},
	"checksum-offload":  {"TestDoctorChecksum TestDoctor TestDoctor6 TestDoctorLinkFile (make firewalls)", ""},
}

// TestDoctorPage: docs/how-to/troubleshooting.md has the table of all checks, each is in a lab, and each lab names its check.
func TestDoctorPage(t *testing.T) {
	sources := map[string]string{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	begin := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		starts := begin.FindAllStringSubmatchIndex(text, -1)
		for _, s := range starts {
			body, _, _ := strings.Cut(text[s[1]:], "\nfunc ")
			sources[text[s[2]:s[3]]] = body
		}
		if name == "firewalls_test.go" { // its lab asks for the checks in a function of its own
			sources["TestFirewalls"] = text
		}
	}
	script, err := os.ReadFile("../../testenv/debian/doctor.sh")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| check | all is well where | it looks at | its fix | `--fix` | tried by |\n| --- | --- | --- | --- | --- | --- |\n")
	known := []string{}
	for _, c := range doctor.Checks {
		known = append(known, c.Name)
		lab := doctorLabs[c.Name]
		if lab.tests == "" && lab.not == "" {
			t.Errorf("%s is in no lab, and there is no reason why", c.Name)
		}
		for _, name := range strings.Fields(lab.tests) {
			if strings.HasPrefix(name, "Test") && !strings.Contains(sources[name], `"`+c.Name+`"`) {
				t.Errorf("%s is not in %s", c.Name, name)
			}
			if name == "`doctor.sh`" && !regexp.MustCompile(`\n\t(finds|mends) "[^"]*" `+c.Name+" ").Match(script) {
				t.Errorf("%s is not in testenv/debian/doctor.sh", c.Name)
			}
		}
		tried := regexp.MustCompile(`Test\w+`).ReplaceAllString(lab.tests, "`$0`")
		tried = strings.ReplaceAll(regexp.MustCompile("(`|\\)) `").ReplaceAllString(tried, "$1, `"), "(make ", "(`make ")
		tried = regexp.MustCompile("(`make [a-z-]+)\\)").ReplaceAllString(tried, "$1`)")
		if lab.not != "" {
			tried = strings.TrimPrefix(tried+"; not "+lab.not, "; not ")
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s | %s |\n", c.Name, c.About, c.Looks, c.Fix, c.Safe, tried)
	}
	for name := range doctorLabs {
		if !slices.Contains(known, name) {
			t.Errorf("there is no check %s", name)
		}
	}
	const page = "../../docs/how-to/troubleshooting.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), "| check | ")
	_, after, end := strings.Cut(rest, "\n\n")
	if !ok || !end {
		t.Fatalf("%s has no table of checks", page)
	}
	want := before + table.String() + "\n" + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(b) != want {
		t.Errorf("%s has another table of checks: run go test ./cmd/netd -run TestDoctorPage -update", page)
	}
}
