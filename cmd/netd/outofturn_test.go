package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"netd/testenv/netns"
)

// TestOutOfTurn has calls of the plugins come in an order that no runtime keeps to, twice, for what never was or is gone, and many at
// once about the same container: each is answered by itself, and when all are taken away nothing of them is left.
func TestOutOfTurn(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	socket := filepath.Join(h.dir, "plugin.sock")
	h.runArgs = []string{"--docker-socket", socket}
	h.start()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	call := func(method, body string) string {
		r, err := client.Post("http://netd/NetworkDriver."+method, "application/json", strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		out, _ := io.ReadAll(r.Body)
		return string(bytes.TrimSpace(out))
	}
	a, b := netns.New(t, "sandbox-a"), netns.New(t, "sandbox-b")
	made := func(id, addr string) string {
		return fmt.Sprintf(`{"NetworkID":"n1","EndpointID":%q,"Interface":{"Address":"%s/32"},"Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostPort":8080}]}}`, id, addr)
	}
	in := func(id string, box *netns.NS) string {
		return fmt.Sprintf(`{"NetworkID":"n1","EndpointID":%q,"SandboxKey":%q}`, id, box.Path())
	}
	const fine, unknown = "{}", "netd knows no endpoint docker/"
	for i, x := range []struct{ method, body, says string }{
		{"Join", in("e1", a), unknown + "e1"},
		{"Leave", in("e1", a), fine},
		{"DeleteEndpoint", in("e1", a), fine},
		{"ProgramExternalConnectivity", made("e1", "10.10.40.150"), unknown + "e1"},
		{"RevokeExternalConnectivity", in("e1", a), fine},
		{"CreateEndpoint", made("e1", "10.10.40.150"), "MacAddress"},
		{"CreateEndpoint", made("e1", "10.10.40.150"), "MacAddress"},
		{"CreateEndpoint", made("e1", "10.10.40.151"), "it is attached already, to network lab with 10.10.40.150"},
		{"CreateEndpoint", made("e2", "10.10.40.150"), "the address 10.10.40.150 is docker/e1's"},
		{"CreateEndpoint", made("e2", "10.10.40.152"), "MacAddress"},
		{"ProgramExternalConnectivity", made("e1", "10.10.40.150"), fine},
		{"ProgramExternalConnectivity", made("e2", "10.10.40.152"), "port 8080/tcp of this host is published for docker/e1 already"},
		{"Join", `{"EndpointID":"e1","SandboxKey":"/run/netns/nowhere"}`, "169.254.1.1"},
		{"Join", in("e1", a), "169.254.1.1"},
		{"Join", in("e2", a), `this container is in network \"lab\" already`},
		{"Join", in("e1", b), "169.254.1.1"},
		{"Leave", in("e1", a), fine},
		{"Leave", in("e1", a), fine},
		{"ProgramExternalConnectivity", made("e1", "10.10.40.150"), fine}, // it was to be asked before
		{"DeleteEndpoint", in("e1", a), fine},
		{"DeleteEndpoint", in("e1", a), fine},
		{"RevokeExternalConnectivity", in("e1", a), fine},
		{"DeleteEndpoint", in("e2", a), fine}, // it never left
	} {
		if got := call(x.method, x.body); got != x.says && (x.says == fine || !strings.Contains(got, x.says)) {
			t.Errorf("%d: %s %s: %s", i, x.method, x.body, got)
		}
	}
	nothing := func(when string) {
		t.Helper()
		h.inSync()
		links := h.Run(t, "ip -o link show group 142 type veth") // the declared one's
		out := h.Run(t, "nft list ruleset") + h.must(0, "show", "workloads")
		if len(strings.Split(strings.TrimSpace(links), "\n")) != 1 || strings.Contains(out, "publish") || strings.Contains(out, "docker") || strings.Contains(out, "same") {
			t.Errorf("after %s:\n%s%s", when, links, out)
		}
	}
	nothing("calls out of turn")

	var all sync.WaitGroup
	for i := range 200 {
		id, addr := fmt.Sprint("c", i%5), fmt.Sprint("10.10.40.16", i%5)
		all.Go(func() {
			switch i / 5 % 5 {
			case 0, 1:
				call("CreateEndpoint", made(id, addr))
			case 2:
				call("Join", in(id, a))
			case 3:
				call("Leave", in(id, a))
			default:
				call("DeleteEndpoint", in(id, a))
			}
		})
	}
	for i := range 40 {
		cmd := h.cniCommand(pluginCall{command: [2]string{"ADD", "DEL"}[i%2], id: "same", netns: b.Path()})
		all.Go(func() {
			if err := h.Start(cmd); err != nil {
				t.Error(err)
				return
			}
			_ = cmd.Wait()
		})
	}
	all.Wait()
	for i := range 5 {
		if got := call("DeleteEndpoint", in(fmt.Sprint("c", i), a)); got != fine {
			t.Error(got)
		}
	}
	h.del(pluginCall{id: "same"})
	nothing("many at once")
	again := pluginCall{id: "same", netns: b.Path()}
	h.add(again)
	b.Run(t, "ping -c1 -w20 169.254.1.1")
	h.del(again)
}
