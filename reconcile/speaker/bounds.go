package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A neighbour may have taken the speaker over. What it then sends reaches a process of root's: the bounds of how much of it
// is kept are here, and its texts are made fit for a terminal before anything else sees them.
const (
	textMost       = 1 << 10   // bytes of one text
	neighboursMost = 1 << 14   // CONFIG.md's 10,000 nodes, and some
	pathsMost      = 1 << 20   // paths besides those that max_prefixes allows: 10,000 nodes with a hundred blocks or containers each
	changesMost    = 1 << 18   // prefixes whose change nobody asked about yet
	answerMost     = 64 << 20  // bytes of what is read of neighbours and policies
	tableMost      = 512 << 20 // bytes of a table that someone looks at
	zoneMost       = 15        // bytes of a link's name (IFNAMSIZ)
)

// Excess is the error of a speaker that says more than one that keeps to the file can know.
type Excess struct{ words string }

func (e *Excess) Error() string {
	return "the speaker says more than it can know, and is not listened to: " + e.words
}

func excess(format string, args ...any) error { return &Excess{fmt.Sprintf(format, args...)} }

// Allow raises the number of paths that a speaker may tell by what the sessions allow, the sum of their max_prefixes. It is
// never lowered: a session that is to allow less may still be about to close.
func (c *Client) Allow(paths uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = max(c.most, int(min(paths, math.MaxInt-pathsMost))+pathsMost)
	c.view.most = c.most
}

// Trouble is why a speaker that answers was not listened to within the last minute, nil where it was all the time.
func (c *Client) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.troubled) > time.Minute {
		return nil
	}
	return c.trouble
}

// legible is an error that holds what a speaker said, without what writes on a terminal, and not too long.
func legible(err error) error {
	var own *Excess
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &own) {
		return err
	}
	if s, ok := status.FromError(err); ok {
		return status.Error(s.Code(), printable(s.Message()))
	}
	return errors.New(printable(err.Error()))
}

// legibly is the dial options by which every error of a request is legible.
func legibly() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return legible(invoke(ctx, method, req, reply, cc, opts...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := stream(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, legible(err)
			}
			return legibleStream{s}, nil
		}),
	}
}

type legibleStream struct{ grpc.ClientStream }

func (s legibleStream) RecvMsg(m any) error { return legible(s.ClientStream.RecvMsg(m)) }

// collect reads a stream of neighbours or policies to its end.
func collect[R, T any](stream grpc.ServerStreamingClient[R], get func(*R) T) (out []T, err error) {
	err = each(stream, answerMost, func(r *R) error { out = append(out, get(r)); return nil })
	return out, err
}

// each gives every message of a stream to take, until that fails or they have more than so many bytes.
func each[R any](stream grpc.ServerStreamingClient[R], most int, take func(*R) error) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m, ok := any(r).(proto.Message); ok {
			if most -= proto.Size(m); most < 0 {
				return excess("an answer without end")
			}
		}
		if err := take(r); err != nil {
			return legible(err)
		}
	}
}
