package speaker

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"golang.org/x/sys/unix"

	"netd/testenv/router"
)

// late is gobgp's one goroutine when it has much to do after a state began: its next word comes after the state's first keepalive.
type late struct {
	*sessions
	next atomic.Bool
}

func (l *late) Observe(op server.FSMOperation, took, waited time.Duration) {
	if l.next.Swap(false) {
		<-time.After(1200 * time.Millisecond) // a keepalive comes after a second
	}
	l.sessions.Observe(op, took, waited)
}

// said reads one message.
func said(r *bufio.Reader) (kind byte, err error) {
	head := make([]byte, headerLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, err
	}
	_, err = r.Discard(int(binary.BigEndian.Uint16(head[16:])) - headerLen)
	return head[18], err
}

// TestTTLs has sessions go up and down, each of which stays in OPENCONFIRM until this end's own keepalives come, while their TTLs are
// changed: in no state does that kill anybody, and what is set is there. With -race it shows who looks at gobgp's connection meanwhile.
func TestTTLs(t *testing.T) {
	const neighbours, rounds = 4, 2
	ctx, cancel := context.WithCancel(context.Background())
	s := newSessions(ctx, newRIB(), func(_, msg string, fields map[string]any) {
		if strings.Contains(msg, "TTL") {
			t.Error(msg, fields)
		}
	}, nil)
	hook := &late{sessions: s}
	state := func(f gobgplog.Fields) {
		s.changesState(f)
		hook.next.Store(f["new"] == "BGP_FSM_OPENCONFIRM")
	}
	s.bgp = server.NewBgpServer(server.TimingHookOption(hook), server.LoggerOption(&gobgpLog{log: s.log, update: s.announced,
		state: state, limited: s.limits.some.Load, heard: func(netip.Addr, string, remedy) {}}))
	var err error
	if s.acceptAt, err = acceptChannel(s.bgp); err != nil {
		t.Fatal(err)
	}
	go s.bgp.Serve()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}) // for a free port
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	if err := s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64512, RouterId: "192.0.2.2", ListenPort: int32(l.Addr().(*net.TCPAddr).Port), ListenAddresses: []string{"127.0.0.1"}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.list.Lock()
		s.bgp.Stop()
		s.list.Unlock()
		cancel()
		s.close()
	})
	peer := func(addr string, hops uint32) *api.Peer {
		return &api.Peer{Conf: &api.PeerConf{NeighborAddress: addr, PeerAsn: 65101}, Transport: &api.Transport{PassiveMode: true, LocalAddress: "127.0.0.1"},
			EbgpMultihop: &api.EbgpMultihop{Enabled: true, MultihopTtl: hops},
			Timers:       &api.Timers{Config: &api.TimersConfig{HoldTime: 3, KeepaliveInterval: 1, IdleHoldTimeAfterReset: 1}}}
	}
	var far, near sync.WaitGroup
	over := make(chan struct{})
	for i := range neighbours {
		addr := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)})
		s.order(t, &api.AddPeerRequest{Peer: peer(addr.String(), 2)})
		near.Add(1)
		go func() {
			defer near.Done()
			for n := uint32(0); ; n++ {
				select {
				case <-over:
					return
				default:
				}
				s.order(t, &api.UpdatePeerRequest{Peer: peer(addr.String(), 3+n%100)})
			}
		}()
		far.Add(1)
		go func() {
			defer far.Done()
			for up, begin := 0, time.Now(); up < rounds; {
				if time.Since(begin) > time.Minute {
					t.Errorf("%s had %d sessions in a minute", addr, up)
					return
				}
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: addr.AsSlice()}}
				c, err := d.Dial("tcp4", at)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				_, _ = c.Write(router.Open{ASN: 65101, ID: addr, HoldTime: 3 * time.Second}.Bytes())
				r := bufio.NewReader(c)
				for keepalives := 0; ; {
					kind, err := said(r)
					if err != nil || kind == router.TypeNotification {
						break // it is not ready for a session yet
					}
					if kind != router.TypeKeepalive {
						continue
					}
					if keepalives++; keepalives == 4 {
						up++
						break
					}
					if keepalives > 1 { // the first answers the OPEN, the next is of OPENCONFIRM
						_, _ = c.Write(router.Keepalive())
					}
				}
				_ = c.Close()
			}
		}()
	}
	far.Wait()
	close(over)
	near.Wait()

	addr := netip.AddrFrom4([4]byte{127, 0, 0, 2})
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: addr.AsSlice()}}
	for begin := time.Now(); ; {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("no session whose TTL is there")
		}
		c, err := d.Dial("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		kind, err := said(bufio.NewReader(c))
		if err != nil || kind != router.TypeOpen {
			_ = c.Close()
			continue
		}
		s.order(t, &api.UpdatePeerRequest{Peer: peer(addr.String(), 200)})
		s.sieves.mu.Lock()
		v := s.sieves.of[addr.String()]
		s.sieves.mu.Unlock()
		if got := ttlOf(t, v.Conn.(*net.TCPConn)); got != 200 {
			t.Errorf("the TTL of the session is %d", got)
		}
		if _, err := s.giveTTLs(addr.String(), ttls{security: oc.TtlSecurityConfig{Enabled: true, TtlMin: 255}}); err != nil {
			t.Error(err)
		}
		if got := ttlOf(t, v.Conn.(*net.TCPConn)); got != 255 {
			t.Errorf("with ttl_security the TTL of the session is %d", got)
		}
		_ = c.Close()
		return
	}
}

func ttlOf(t *testing.T, conn *net.TCPConn) (ttl int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { ttl, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return ttl
}

// TestUpdateGroup: an update that gobgp would carry out on connections of its own is refused.
func TestUpdateGroup(t *testing.T) {
	s, _, _ := counting(t)
	p := countedPeer()
	p.Conf.PeerGroup = "g"
	for _, req := range []any{&api.UpdatePeerRequest{Peer: p}, &api.UpdatePeerGroupRequest{PeerGroup: &api.PeerGroup{Conf: &api.PeerGroupConf{PeerGroupName: "g"}}}} {
		if _, err := s.carry(req); err == nil || !strings.Contains(err.Error(), "peer group") {
			t.Errorf("%T: %v", req, err)
		}
	}
}
