package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
)

// TestCNIStorm has many containers attached at once while the daemon and the plugin are killed again and again. No address
// is two containers', each container that was told of an address has it, and once those that failed are gone and swept, no
// address is lost. `make soak` does it with 1,000.
func TestCNIStorm(t *testing.T) {
	many := 40
	if os.Getenv("NETD_SOAK") != "" {
		many = 1000
	}
	l := newLab(t, "vxlan")
	text := strings.Replace(fmt.Sprintf(walkthrough, "vxlan"), "10.10.40.128/26", "10.10.40.0/21", 1)
	if err := os.WriteFile(l.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	h := l.hosts[0]
	h.start()
	r := rand.New(rand.NewPCG(1, uint64(many)))
	boxes := make([]*netns.NS, many)
	for i := range boxes {
		boxes[i] = netns.New(t, fmt.Sprintf("storm%d", i))
	}
	var mu sync.Mutex
	told := map[string]string{} // container → address
	var wait sync.WaitGroup
	done := make(chan struct{})
	ended := make(chan struct{}, many) // one for each that ended
	for i, box := range boxes {
		cmd := h.cniCommand(pluginCall{command: "ADD", id: box.Name, netns: box.Path()})
		killed := time.Duration(0)
		if r.IntN(4) == 0 {
			killed = time.Duration(r.IntN(200)) * time.Millisecond
		}
		wait.Go(func() {
			defer func() { ended <- struct{}{} }()
			var out, said bytes.Buffer // what it waits for is no part of the result
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := h.Start(cmd); err != nil {
				t.Error(err)
				return
			}
			if killed > 0 {
				defer time.AfterFunc(killed, func() { _ = cmd.Process.Kill() }).Stop()
			}
			err := cmd.Wait()
			var a added
			if json.Unmarshal(out.Bytes(), &a) == nil && err == nil && len(a.IPs) > 0 {
				mu.Lock()
				told[box.Name] = h.address(a)
				mu.Unlock()
			} else if killed == 0 && a.Code != 11 { // 11: the daemon died over it again and again
				t.Errorf("ADD %d: %v: %s%s", i, err, said.String(), out.String())
			}
		})
	}
	go func() { wait.Wait(); close(done) }()
	kills := 0
	kill := func() {
		h.stop(syscall.SIGKILL)
		h.startAgain()
		kills++
	}
	for range many * 6 / 10 { // the first comes while many are under way, however fast the host, and enough are attached
		<-ended
	}
	kill()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Duration(50+r.IntN(400)) * time.Millisecond): // the storm's own pace
			kill()
		}
	}
	if kills == 0 || len(told) < many/3 {
		t.Fatalf("%d kills of the daemon, %d of %d attached: too few to prove anything", kills, len(told), many)
	}
	t.Logf("%d kills of the daemon, %d of %d attached", kills, len(told), many)
	h.inSync()
	has := map[string]string{} // address → container, as the containers themselves say
	for _, box := range boxes {
		out := box.Run(t, "ip -o -4 addr show scope global")
		_, after, _ := strings.Cut(out, "inet ")
		addr, _, _ := strings.Cut(after, "/")
		if addr == "" {
			if told[box.Name] != "" {
				t.Errorf("%s was told of %s and has none", box.Name, told[box.Name])
			}
			continue
		}
		if other, twice := has[addr]; twice {
			t.Errorf("%s is %s's and %s's", addr, other, box.Name)
		}
		has[addr] = box.Name
		if told[box.Name] != "" && told[box.Name] != addr {
			t.Errorf("%s was told of %s and has %s", box.Name, told[box.Name], addr)
		}
	}
	// Those that were told of nothing are given up without a word; the others go as they should.
	for _, box := range boxes {
		if told[box.Name] == "" {
			if err := box.Remove(); err != nil {
				t.Error(err)
			}
		}
	}
	for name := range told {
		h.del(pluginCall{id: name})
	}
	l.wait("the sweep", func() string {
		out := h.must(0, "show", "blocks")
		if !strings.Contains(out, "1 by file, 1 by tunnel") || strings.Contains(out, "by cni") {
			return out
		}
		return ""
	})
	h.inSync()
}

// startAgain starts a daemon in place of one that was killed; whoever started the first cleans up.
func (h *labHost) startAgain() {
	h.lab.t.Helper()
	h.daemon, h.log = h.command("run"), &said{}
	h.daemon.Stderr = h.log
	if err := h.Start(h.daemon); err != nil {
		h.lab.t.Fatal(err)
	}
}
