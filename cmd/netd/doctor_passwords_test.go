package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"netd/config"
	"netd/reconcile/doctor"
	"netd/testenv/netns"
)

// TestDoctorPasswords makes each fault of a password_file that doctor has a command for, runs it and sees the fault gone. Where the
// file is a link, what it leads to stays whose it is.
func TestDoctorPasswords(t *testing.T) {
	netns.Need(t)
	dir, err := os.MkdirTemp("/run", "netd-test-") // each folder on the way is root's alone, which no temporary one need be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file, other := filepath.Join(dir, "it's", "bgp"), filepath.Join(dir, "other")
	name := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(name, []byte(fmt.Sprintf(walkthrough, "bgp")+fmt.Sprintf("bgp {\n  password_file = %q\n}\n", file)), 0o644); err != nil {
		t.Fatal(err)
	}
	src, err := config.Read(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ds := src.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	site := &doctor.Site{Host: thisHost{}, Config: c, Node: c.Nodes[0]}
	check := doctor.Checks[slices.IndexFunc(doctor.Checks, func(c doctor.Check) bool { return c.Name == "password-file" })]
	sh := func(lines string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", lines).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", lines, err, out)
		}
	}
	look := func() doctor.Finding { return check.Run(context.Background(), site)[0] }
	quoted := func(name string) string { return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'" }
	outside := filepath.Join(t.TempDir(), "outside")
	file, other = quoted(file), quoted(other)

	for _, x := range []struct{ name, fault, says, fix string }{
		{"there is none", "", "no such file or directory", "install -D -m 600 "},
		{"others read it", "chmod 644 " + file, "has mode 0644", "chown -h root "},
		{"it is another's", "chown 65534 " + file, "must belong to root", "chown -h root "},
		{"it is a link to what is another's", "printf known >" + other + "; chmod 644 " + other + "; chown 65534 " + other + "; ln -sf " + other + " " + file, "must belong to root; it is a link to /run/", "mv -fT "},
		{"it is too long", "printf '%0100d' 0 >" + file, "must hold 1 to 80 bytes", "install -D -m 600 "},
		{"it is a link to nothing", "ln -sf nothing " + file, "no such file or directory", "install -D -m 600 "},
	} {
		sh(x.fault)
		found := look()
		if found.Level != doctor.Fail || !strings.Contains(found.Evidence, x.says) || !strings.Contains(found.Fix, x.fix) || found.Safe {
			t.Errorf("%s: %+v", x.name, found)
			continue
		}
		sh("echo secret | " + found.Fix)
		if found := look(); found.Level != doctor.OK {
			t.Errorf("%s: after the fix: %+v", x.name, found)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 65534 || info.Mode().Perm() != 0o644 {
		t.Errorf("what the link led to is %d's and has mode %04o now", uid, info.Mode().Perm())
	}

	// A folder that others write to, on the way or behind a link of it: no command on a file of that name is safe.
	for _, fault := range []string{"chmod 644 " + file + "; chmod 777 " + quoted(filepath.Join(dir, "it's")),
		"cd " + dir + "; mv \"it's\" " + outside + "; chmod 755 " + outside + "; chmod 777 " + filepath.Dir(outside) + "; ln -s " + outside + " \"it's\""} {
		sh(fault)
		if found := look(); !strings.Contains(found.Evidence, "others than root may put another file in its place, in /") || !strings.HasPrefix(found.Fix, "install -D -m 600 /dev/stdin /etc/netd/bgp ") {
			t.Errorf("%s: %+v", fault, found)
		}
	}
}
