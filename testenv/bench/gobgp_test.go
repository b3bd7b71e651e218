package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"

	"netd/testenv/netns"
)

// gobgpRole is gobgp's library as it comes, with one neighbour, no policy, and nobody who follows its table: what netd's speaker
// cannot be faster than. It says how many prefixes it has been told, a line for each change, until its standard input ends.
func gobgpRole([]string) (measured, error) {
	ctx := context.Background()
	s := server.NewBgpServer()
	go s.Serve()
	if err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64512, RouterId: "172.16.0.10", ListenPort: 179}}); err != nil {
		return nil, err
	}
	if err := s.AddPeer(ctx, &api.AddPeerRequest{Peer: &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: "172.16.0.1", PeerAsn: 65001},
		Transport: &api.Transport{PassiveMode: true},
	}}); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = os.Stdin.Read(make([]byte, 1))
	}()
	was := uint64(0)
	for {
		select {
		case <-ended:
			return measured{}, nil
		case <-time.After(20 * time.Millisecond): // it counts them all each time
		}
		if err := s.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
			for _, f := range p.GetAfiSafis() {
				if n := f.GetState().GetReceived(); n != was {
					was = n
					fmt.Println(n)
				}
			}
		}); err != nil {
			return nil, err
		}
	}
}

// library is gobgp's library in a namespace.
type library struct {
	told *bufio.Scanner
	end  func()
}

func startLibrary(b testing.TB, ns *netns.NS) *library {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=gobgp")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := ns.Start(cmd); err != nil {
		b.Fatal(err)
	}
	return &library{told: bufio.NewScanner(out), end: func() {
		_ = in.Close()
		_ = cmd.Wait()
	}}
}

// until waits until it has been told so many prefixes, no more and no fewer.
func (l *library) until(b testing.TB, n int) {
	b.Helper()
	for l.told.Scan() {
		if got, _ := strconv.Atoi(l.told.Text()); got == n {
			return
		}
	}
	b.Fatalf("gobgp ended before it had %d prefixes: %v", n, l.told.Err())
}
