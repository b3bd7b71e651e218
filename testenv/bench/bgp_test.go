package bench

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
	"netd/testenv/router"
)

const bgpFile = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}
node "node" {
  address = "172.16.0.10/16"
  blocks  = ["10.10.40.128/26"]
}
peer "tor" {
  address      = "172.16.0.1"
  asn          = 65001
  import       = ["11.0.0.0/8 le 32"]
  max_prefixes = 1000000
}
`

// learned is the i-th prefix that the sender announces.
func learned(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

// birdSender announces what is enabled: one prefix, 10,000, or 100,000.
func birdSender() string {
	var f strings.Builder
	f.WriteString("router id 172.16.0.1;\nprotocol device { scan time 60; }\n")
	first := 0
	for _, n := range []int{1, 10_000, 100_000} {
		fmt.Fprintf(&f, "protocol static many%d {\n disabled yes;\n ipv4;\n", n)
		for i := range n {
			fmt.Fprintf(&f, " route %s blackhole;\n", learned(first+i))
		}
		f.WriteString("}\n")
		first += n
	}
	f.WriteString(`protocol bgp far {
 local 172.16.0.1 as 65001;
 neighbor 172.16.0.10 as 64512;
 hold time 90;
 connect delay time 1; connect retry time 1; error wait time 1, 4;
 direct;
 ipv4 { import all; export where source = RTS_STATIC; next hop self; };
}
`)
	return f.String()
}

const birdReceiver = `router id 172.16.0.10;
protocol device { scan time 60; }
protocol kernel { ipv4 { import none; export all; }; }
protocol bgp tor {
 local 172.16.0.10 as 64512;
 neighbor 172.16.0.1 as 65001;
 hold time 90;
 connect delay time 1; connect retry time 1; error wait time 1, 4;
 direct;
 ipv4 { import all; export none; };
}
`

const frrReceiver = `router bgp 64512
 bgp router-id 172.16.0.10
 no bgp ebgp-requires-policy
 neighbor 172.16.0.1 remote-as 65001
 neighbor 172.16.0.1 timers 30 90
 neighbor 172.16.0.1 timers connect 1
`

// change has the sender enable or disable routes and waits until the kernel of the receiver has made n changes of that kind.
func change(b testing.TB, tor *router.Router, hear *wire, verb, what string, n int) time.Duration {
	b.Helper()
	typ := uint16(unix.RTM_NEWROUTE)
	if verb == "disable" {
		typ = unix.RTM_DELROUTE
	}
	began := time.Now()
	tor.Ask(verb, what)
	for got := 0; got < n; {
		err := hear.receive(func(t uint16, body []byte) error {
			if dst := parseRoute(body).dst; t == typ && dst.IsValid() && dst.Addr().As4()[0] == 11 {
				got++
			}
			return nil
		})
		if err != nil {
			b.Fatalf("%d of %d changes after %s %s: %v", got, n, verb, what, err)
		}
	}
	return time.Since(began)
}

// BenchmarkBGP has BIRD announce prefixes over one hop to netd, to BIRD and to FRR in turn, until they are in the kernel, and to gobgp's
// library alone, until it has them.
func BenchmarkBGP(b *testing.B) {
	netns.Need(b)
	took := map[string]map[int][]time.Duration{"netd": {}, "bird": {}, "frr": {}, "gobgp": {}}
	gone := map[string][]time.Duration{}
	var ones []time.Duration
	cold := map[string][]time.Duration{}
	var memory, rest, speaker, idleSpeaker float64
	ofDaemon, ofSpeaker := map[int][]float64{}, map[int][]float64{}
	const runs = 3
	for run := range runs {
		for _, who := range []string{"netd", "bird", "frr", "gobgp"} {
			b.Run(who, func(b *testing.B) {
				node := &host{netns.New(b, "node"), b.TempDir()}
				far := netns.New(b, "tor")
				node.Run(b, "ip link add ens33 type veth peer name eth0 netns tor")
				for ns, addr := range map[*netns.NS]string{node.NS: "172.16.0.10/16 dev ens33", far: "172.16.0.1/16 dev eth0"} {
					ns.Run(b, "ip addr add "+addr)
					ns.Run(b, "ip link set "+strings.Fields(addr)[2]+" up")
				}
				hear := open(b, node.NS, routeChanges)
				defer hear.close()
				tor := router.New(b, router.BIRD, far, birdSender())
				established := func() {
					for deadline := time.Now().Add(time.Minute); !strings.Contains(tor.Ask("show", "protocols", "far"), "Established"); time.Sleep(2 * time.Millisecond) {
						if time.Now().After(deadline) {
							b.Fatal("the session does not come up:\n" + tor.Ask("show", "protocols", "all", "far"))
						}
					}
				}
				began := time.Now()
				var d *daemon
				change := func(verb, what string, n int) time.Duration { return change(b, tor, hear, verb, what, n) }
				switch who {
				case "gobgp":
					l := startLibrary(b, node.NS)
					defer l.end()
					has := 0
					change = func(verb, what string, n int) time.Duration {
						began := time.Now()
						tor.Ask(verb, what)
						if verb == "disable" {
							n = -n
						}
						has += n
						l.until(b, has)
						return time.Since(began)
					}
				case "netd":
					if err := os.Chmod(node.dir, 0o755); err != nil {
						b.Fatal(err)
					}
					if err := os.WriteFile(node.file("netd.hcl"), []byte(bgpFile), 0o644); err != nil {
						b.Fatal(err)
					}
					d, _ = node.start(b)
					defer d.endSpeaker()
				case "bird":
					router.New(b, router.BIRD, node.NS, birdReceiver)
				case "frr":
					router.New(b, router.FRR, node.NS, frrReceiver)
				}
				established()
				cold[who] = append(cold[who], time.Since(began))
				if who == "netd" {
					if pid := speakerIn(node.NS); pid != 0 {
						idleSpeaker = max(idleSpeaker, resident(pid))
					}
					if run == 0 {
						for range 30 {
							ones = append(ones, change("enable", "many1", 1))
							change("disable", "many1", 1)
						}
						b.Logf("one prefix: %s", median(ones))
					}
				}
				for _, n := range []int{10_000, 100_000} {
					what := fmt.Sprintf("many%d", n)
					var before [2]float64
					if who == "netd" {
						before = [2]float64{used(d.cmd.Process.Pid), used(speakerIn(node.NS))}
					}
					took[who][n] = append(took[who][n], change("enable", what, n))
					if who == "netd" {
						ofDaemon[n] = append(ofDaemon[n], used(d.cmd.Process.Pid)-before[0])
						ofSpeaker[n] = append(ofSpeaker[n], used(speakerIn(node.NS))-before[1])
						b.Logf("%d prefixes: %s, daemon %.2f s, speaker %.2f s of the processor", n, took[who][n][run], ofDaemon[n][run], ofSpeaker[n][run])
					}
					if who == "netd" && n == 100_000 {
						if pid := speakerIn(node.NS); pid != 0 {
							speaker = max(speaker, resident(pid))
							memory = max(memory, resident(pid)+resident(d.cmd.Process.Pid))
							b.Logf("resident: daemon %s, speaker %s", amount(resident(d.cmd.Process.Pid), "MB"), amount(resident(pid), "MB"))
							if run == 0 {
								time.Sleep(15 * time.Second) // when all is quiet
								rest = resident(pid) + resident(d.cmd.Process.Pid)
							}
						}
					}
				}
				gone[who] = append(gone[who], change("disable", "many100000", 100_000))
			})
		}
	}
	if len(took["netd"][100_000]) == 0 || len(took["frr"][100_000]) == 0 || len(took["bird"][100_000]) == 0 || len(took["gobgp"][100_000]) == 0 {
		return // said already
	}
	within("bgp: both ends' start to established, beside BIRD", median(cold["netd"]), 1500*time.Millisecond)
	within("bgp: one prefix, BIRD told to announce it to netd's kernel, p50", median(ones), 5*time.Millisecond)
	for _, n := range []int{10_000, 100_000} {
		what := fmt.Sprintf("bgp: %d prefixes from BIRD into the kernel", n)
		most := 0.0
		if n == 100_000 {
			most = 1
		}
		against(what, median(took["netd"][n]), median(took["frr"][n]), "FRR", most)
		against(what, median(took["netd"][n]), median(took["bird"][n]), "BIRD", 0)
		against(what, median(took["netd"][n]), median(took["gobgp"][n]), "gobgp's library, into its own table", 0)
	}
	const withdrawn = "bgp: 100000 prefixes withdrawn by BIRD, out of the kernel"
	against(withdrawn, median(gone["netd"]), median(gone["frr"]), "FRR", 1)
	against(withdrawn, median(gone["netd"]), median(gone["bird"]), "BIRD", 0)
	against(withdrawn, median(gone["netd"]), median(gone["gobgp"]), "gobgp's library, out of its own table", 0)
	for _, n := range []int{10_000, 100_000} {
		table.add(figure{what: fmt.Sprintf("bgp: %d prefixes: processor time of daemon, of speaker", n),
			netd: show(seconds(median(ofDaemon[n]))) + ", " + show(seconds(median(ofSpeaker[n]))), bar: "told", none: true})
	}
	below("bgp: speaker with a session and no routes, resident", idleSpeaker, 60, "MB")
	below(fmt.Sprintf("bgp: daemon and speaker with 110000 prefixes, resident (speaker %s)", amount(speaker, "MB")), memory, 300, "MB")
	below("bgp: daemon and speaker with 110000 prefixes, 15 s later, resident", rest, 300, "MB")
}

// used is the processor time that a process has used, in seconds (proc_pid_stat(5): utime and stime in hundredths).
func used(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / 100
}

// endSpeaker ends a daemon and the speaker, which outlives it. The namespace goes with its routes.
func (d *daemon) endSpeaker() {
	d.stop()
	if pid := speakerIn(d.NS); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// speakerIn is the process of the speaker in a network namespace, 0 where none is.
func speakerIn(ns *netns.NS) int {
	of := ""
	_ = ns.Do(func() (err error) { of, err = os.Readlink("/proc/thread-self/ns/net"); return err })
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if args := strings.Split(string(text), "\x00"); len(args) > 1 && args[1] == "speaker" {
			if in, _ := os.Readlink(filepath.Join(filepath.Dir(f), "ns/net")); in == of {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
				return pid
			}
		}
	}
	return 0
}
