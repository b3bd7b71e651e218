package cni

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// willing takes everything, and fails the test for what must never reach it.
type willing struct{ t *testing.T }

func (w willing) Attach(_ context.Context, r workload.Request) (store.Endpoint, error) {
	w.look(r.ID)
	for _, a := range r.Addrs {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			w.t.Errorf("the address %v", a)
		}
	}
	return store.Endpoint{ID: r.ID, Interface: r.Interface, IPv4: netip.MustParseAddr("10.10.40.130"), IPv6: netip.MustParseAddr("fd00::1"), MAC: "02:00:00:00:00:01"}, nil
}

func (w willing) Detach(_ context.Context, ids ...object.Place) error {
	for _, id := range ids {
		w.look(id)
	}
	return nil
}

func (w willing) Check(_ context.Context, id object.Place, _ string) (store.Endpoint, error) {
	w.look(id)
	return store.Endpoint{ID: id, IPv4: netip.MustParseAddr("10.10.40.130")}, nil
}

func (willing) Known(context.Context) ([]store.Endpoint, error) {
	return []store.Endpoint{{ID: "cni/c9/eth0", Owner: "cni", Group: "lab"}}, nil
}
func (willing) Ready(context.Context, string) error { return nil }

func (w willing) look(id object.Place) {
	if parts := strings.Split(string(id), "/"); len(parts) != 3 || strings.Contains(string(id), "..") && strings.HasPrefix(parts[1], ".") || strings.ContainsRune(string(id), 0) {
		w.t.Errorf("the id %q", id)
	}
}

// FuzzRun: whatever a runtime says, the answer is a result or an error in the specification's form, and no id is a path.
func FuzzRun(f *testing.F) {
	for _, stdin := range []string{
		`{"cniVersion":"1.1.0","name":"lab","type":"netd-cni"}`,
		`{"cniVersion":"0.3.1","name":"lab","runtimeConfig":{"ips":["10.10.40.150/24","fd00::2"],"mac":"02:11:22:33:44:55"}}`,
		`{"cniVersion":"0.4.0","name":"lab","prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.10.40.130/32"}]}}`,
		`{"cniVersion":"1.1.0","name":"lab","cni.dev/valid-attachments":[{"containerID":"../x","ifname":"eth0"}]}`,
		`{"cniVersion":"1.0.0","name":"lab","prevResult":{"ips":[{"address":null}]}}`,
		`{"prevResult":null,"dns":{"nameservers":[null]}}`, `[]`, ``, `{"cniVersion":1}`,
	} {
		for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", ""} {
			f.Add(command, "c1", "/run/netns/x", "eth0", "IgnoreUnknown=1;IP=10.10.40.150;MAC=02:11:22:33:44:55;K8S_POD_NAME=\xff", []byte(stdin))
		}
	}
	f.Fuzz(func(t *testing.T, command, id, netns, ifname, args string, stdin []byte) {
		out := Run(t.Context(), willing{t}, Call{Command: command, ContainerID: id, Netns: netns, IfName: ifname, Args: args, Stdin: stdin})
		if out.Code == 0 && len(out.Stdout) == 0 {
			return
		}
		var v struct {
			CNIVersion string `json:"cniVersion"`
			Code       uint   `json:"code"`
			Msg        string `json:"msg"`
		}
		if err := json.Unmarshal(out.Stdout, &v); err != nil || v.CNIVersion == "" {
			t.Fatalf("%v: %s", err, out.Stdout)
		}
		if out.Code != 0 && (v.Code == 0 || v.Msg == "") {
			t.Fatalf("exit code %d with %s", out.Code, out.Stdout)
		}
	})
}
