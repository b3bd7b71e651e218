package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// willing takes everything, and fails the test for what must never reach it.
type willing struct{ t *testing.T }

func (w willing) Pool(_ context.Context, _ string, pool netip.Prefix, _ bool) (string, error) {
	if pool != pool.Masked() {
		w.t.Errorf("the pool %s", pool)
	}
	return "lab", nil
}

func (w willing) Promise(_ context.Context, _ string, in netip.Prefix, wanted netip.Addr) (netip.Addr, error) {
	w.address(wanted)
	if !in.IsValid() {
		w.t.Errorf("the pool %s", in)
	}
	if wanted.IsValid() {
		return wanted, nil
	}
	return netip.MustParseAddr("10.10.40.130"), nil
}

func (w willing) Publish(_ context.Context, id object.Place, ports []object.Port) error {
	for _, p := range ports {
		if p.On == 0 || p.Port == 0 || p.Proto != "tcp" && p.Proto != "udp" || p.At.Zone() != "" || p.At.Is4In6() {
			w.t.Errorf("%s is asked to publish %+v", id, p)
		}
	}
	return nil
}
func (w willing) Unpromise(_ context.Context, a netip.Addr) error { w.address(a); return nil }

func (w willing) Attach(_ context.Context, r workload.Request) (store.Endpoint, error) {
	w.look(r.ID)
	for _, a := range r.Addrs {
		w.address(a)
	}
	if !r.Handed || len(r.Addrs) == 0 || r.Netns != "" && (!filepath.IsAbs(r.Netns) || r.Netns != filepath.Clean(r.Netns) || strings.ContainsRune(r.Netns, 0)) {
		w.t.Errorf("the request %+v", r)
	}
	return store.Endpoint{ID: r.ID, MAC: "02:00:00:00:00:01"}, nil
}

func (w willing) Leave(_ context.Context, id object.Place) error { w.look(id); return nil }

func (w willing) Detach(_ context.Context, ids ...object.Place) error {
	for _, id := range ids {
		w.look(id)
	}
	return nil
}

func (willing) Begin(context.Context) error { return nil }

func (willing) Known(context.Context) ([]store.Endpoint, error) {
	return []store.Endpoint{{ID: "docker/e1", Owner: "docker", Container: "e1", IPv4: netip.MustParseAddr("10.10.40.130"), MAC: "02:00:00:00:00:01"}}, nil
}

func (w willing) address(a netip.Addr) {
	if a.Is4In6() || a.Zone() != "" {
		w.t.Errorf("the address %v", a)
	}
}

// look: an id becomes part of keys, names and the store's order.
func (w willing) look(id object.Place) {
	rest, ok := strings.CutPrefix(string(id), "docker/")
	if !ok || workload.CheckID("id", rest) != nil || strings.ContainsAny(rest, "/\x00") {
		w.t.Errorf("the id %q", id)
	}
}

// called is what a call is answered with.
func called(t testing.TB, a Attacher, method string, body []byte) (code int, out map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	r := &http.Request{Method: http.MethodPost, URL: httptest.NewRequest(http.MethodPost, "/", nil).URL, Body: http.NoBody}
	r = r.WithContext(t.Context())
	r.URL.Path = "/" + method
	r.Body = readCloser{bytes.NewReader(body)}
	Plugin{a}.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v: %s", method, err, w.Body)
	}
	return w.Code, out
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// FuzzCall: whatever comes over Docker's socket, the answer is JSON with a result or with words, and nothing that becomes a
// path, a key or an address passes unlooked at.
func FuzzCall(f *testing.F) {
	for _, body := range []string{
		`{"Pool":"10.10.0.0/16","Options":{"network":"lab"},"V6":false}`, `{"Pool":"10.10.0.1/16"}`, `{"Pool":"fd00::/64","V6":true}`,
		`{"PoolID":"lab@10.10.0.0/16","Address":"10.10.40.150"}`, `{"PoolID":"lab@10.10.0.0/16","Address":"::ffff:10.10.40.150"}`, `{"PoolID":"@"}`, `{"Address":"fe80::1%eth0"}`,
		`{"PoolID":"lab@0.0.0.0/0","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`,
		`{"NetworkID":"n1","IPv4Data":[{"AddressSpace":"netd","Pool":"10.10.0.0/16","Gateway":"169.254.1.1/32"}],"Options":{"com.docker.network.generic":{"network":"lab"}}}`,
		`{"NetworkID":"n1","IPv4Data":[],"Options":{"com.docker.network.generic":{"network":"lab"}}}`,
		`{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.10.40.150/32","AddressIPv6":"fd00::2/128","MacAddress":"02:11:22:33:44:55"},"Options":{"com.docker.network.portmap":[{"Port":80}]}}`,
		`{"EndpointID":"e1","Options":{"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080},{"Proto":17,"Port":53,"HostIP":"::ffff:10.0.0.1","HostPort":53},{"Proto":17,"Port":54,"HostIP":"0.0.0.0","HostPort":54}]}}`,
		`{"EndpointID":"e1","Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostIP":"fe80::1%eth0","HostPort":65536}]}}`,
		`{"NetworkID":"n1","EndpointID":"../e1","Interface":{"Address":"10.10.40.150/32"}}`, `{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.10.40.150/24"}}`,
		`{"NetworkID":"n1","EndpointID":"e1","SandboxKey":"/var/run/docker/netns/../../../etc/passwd"}`, `{"EndpointID":"e1","SandboxKey":"netns/x"}`, `{"EndpointID":"e1","SandboxKey":"/x\u0000y"}`,
		`{"Options":{"com.docker.network.generic":[]}}`, `{"Interface":null}`, `[]`, `null`, ``, `{"PoolID":1}`,
	} {
		for method := range (Plugin{}).methods() {
			f.Add(method, []byte(body))
		}
	}
	f.Add("Plugin.Activate/..", []byte(`{}`))
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		code, out := called(t, willing{t}, method, body)
		_, known := (Plugin{}).methods()[method]
		if known != (code == http.StatusOK) {
			t.Fatalf("%s: %d %v", method, code, out)
		}
		if text, failed := out["Err"].(string); failed && (text == "" || known && out["Error"] != text) {
			t.Fatalf("%s: %v", method, out)
		}
	})
}

// TestCallBounds: a call is as long as a call can be, and a POST.
func TestCallBounds(t *testing.T) {
	long := append([]byte(`{"EndpointID":"`), bytes.Repeat([]byte("x"), biggestCall)...)
	if _, out := called(t, willing{t}, "NetworkDriver.Leave", append(long, `"}`...)); out["Err"] != "a call of more than 1048576 bytes" {
		t.Errorf("%v", out)
	}
	w := httptest.NewRecorder()
	Plugin{willing{t}}.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/NetworkDriver.Leave", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a GET: %d %s", w.Code, w.Body)
	}
}

// TestCalls is what Docker is told, call by call, of a container's way.
func TestCalls(t *testing.T) {
	for _, x := range []struct{ method, body, want string }{
		{"IpamDriver.RequestPool", `{"Pool":"10.10.0.0/16"}`, `{"Data":{"com.docker.network.gateway":"169.254.1.1/32"},"Pool":"10.10.0.0/16","PoolID":"lab@10.10.0.0/16"}`},
		{"IpamDriver.RequestPool", `{"Pool":""}`, `{"Data":{"com.docker.network.gateway":"169.254.1.1/32"},"Pool":"0.0.0.0/0","PoolID":"lab@0.0.0.0/0"}`},
		{"IpamDriver.RequestPool", `{"Pool":"","V6":true}`, `{"Data":{"com.docker.network.gateway":"fe80::ecee:eeff:feee:eeee/128"},"Pool":"::/0","PoolID":"lab@::/0"}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"lab@10.10.0.0/16"}`, `{"Address":"10.10.40.130/32"}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"a@b@10.10.0.0/16","Address":"10.10.40.150"}`, `{"Address":"10.10.40.150/32"}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"lab@fd00:10::/48","Address":"fd00:10::1","Options":{"RequestAddressType":"com.docker.network.gateway"}}`,
			`{"Err":"--gateway: the gateway is fe80::ecee:eeff:feee:eeee in every container; leave it out","Error":"--gateway: the gateway is fe80::ecee:eeff:feee:eeee in every container; leave it out"}`},
		{"NetworkDriver.CreateEndpoint", `{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.10.40.130/32"}}`, `{"Interface":{"MacAddress":"02:00:00:00:00:01"}}`},
		{"NetworkDriver.CreateEndpoint", `{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.10.40.130/32","MacAddress":"02:00:00:00:00:02"}}`, `{"Interface":{}}`},
		{"NetworkDriver.CreateEndpoint", `{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.10.40.130/24"}}`,
			`{"Err":"the address \"10.10.40.130/24\" is none that netd gave","Error":"the address \"10.10.40.130/24\" is none that netd gave"}`},
		{"NetworkDriver.Join", `{"NetworkID":"n1","EndpointID":"e1","SandboxKey":"/var/run/docker/netns/abc"}`,
			`{"Gateway":"169.254.1.1","InterfaceName":{"DstPrefix":"eth","SrcName":"` + object.PeerName("docker/e1") + `"},"StaticRoutes":[{"Destination":"169.254.1.1/32","RouteType":1}]}`},
		{"NetworkDriver.Join", `{"NetworkID":"n1","EndpointID":"e2","SandboxKey":"/var/run/docker/netns/abc"}`, `{"Err":"netd knows no endpoint docker/e2; if it was restarted just now, do it again","Error":"netd knows no endpoint docker/e2; if it was restarted just now, do it again"}`},
	} {
		_, out := called(t, willing{t}, x.method, []byte(x.body))
		if got, err := json.Marshal(out); err != nil || string(got) != x.want {
			t.Errorf("%s %s:\n%s\nwant\n%s", x.method, x.body, got, x.want)
		}
	}
}
