package speaker

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// writeWithin is how long a client may take to accept a frame.
const writeWithin = 10 * time.Second

// accept serves paths.sock until the listener is closed.
func (p *process) accept(ctx context.Context, l net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		conns.Add(1)
		go func() {
			defer conns.Done()
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stop()
			defer c.Close()
			if err := p.converse(ctx, c); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				p.sessions.log("debug", "a client of paths.sock left", map[string]any{"error": err.Error()})
			}
		}()
	}
}

func (p *process) converse(ctx context.Context, c net.Conn) error {
	w := &deadlineWriter{c}
	err := writeJSON(w, frameHello, hello{Protocol: protocolVersion, Version: p.version, Instance: p.instance, PID: os.Getpid(), Fresh: p.sessions.fresh(), Changes: p.sessions.changes.Load()})
	if err != nil {
		return err
	}
	r := bufio.NewReader(c)
	if err := c.SetReadDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	var req request
	if err := readJSON(r, frameRequest, &req); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	switch req.Op {
	case opWatch:
		return p.stream(ctx, w, r)
	case opLocal:
		return writeJSON(w, frameAnswer, answer{Local: p.rib.local()})
	case opHold:
		_, err := r.ReadByte() // until the client hangs up
		return err
	case opStop:
		ctx, cancel := context.WithTimeout(ctx, stopWithin-5*time.Second) // and some to say so
		defer cancel()
		var a answer
		if err := p.stop(ctx); err != nil {
			a.Error = err.Error()
		}
		err := writeJSON(w, frameAnswer, a)
		p.quitOnce.Do(func() { close(p.quit) })
		return err
	case opExit:
		err := writeJSON(w, frameAnswer, answer{})
		p.quitOnce.Do(func() { close(p.quit) })
		return err
	}
	return writeJSON(w, frameAnswer, answer{Error: "no such request: " + req.Op})
}

// stream sends the rib and follows it until the client hangs up.
func (p *process) stream(ctx context.Context, w *deadlineWriter, r *bufio.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		_, _ = r.ReadByte()
		cancel()
	}()
	defer func() {
		cancel()
		_ = w.c.Close()
		<-hungUp
	}()
	follower := p.rib.follow()
	defer p.rib.unfollow(follower)
	marked := false
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-follower.wake:
		}
		for more := true; more; {
			var neighbours []Neighbour
			buf, neighbours, more = p.rib.take(follower, buf[:0])
			if len(buf) > 0 {
				if err := writeFrame(w, framePaths, buf); err != nil {
					return err
				}
			}
			if len(neighbours) > 0 {
				if err := writeJSON(w, frameNeighbours, neighbours); err != nil {
					return err
				}
			}
		}
		if !marked {
			marked = true
			if err := writeFrame(w, frameMark, nil); err != nil {
				return err
			}
		}
	}
}

// deadlineWriter gives up on a client that takes nothing.
type deadlineWriter struct{ c net.Conn }

func (w *deadlineWriter) Write(b []byte) (int, error) {
	if err := w.c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	return w.c.Write(b)
}
