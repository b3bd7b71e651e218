package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Socket is where the Engine's API is.
const Socket = "/run/docker.sock"

// Client asks one Docker.
type Client struct{ http http.Client }

// Open is a client of the Docker at a socket. It connects when it is asked something.
func Open(socket string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConns: 2,
	}}}
}

// Container is a container as Docker tells of it.
type Container struct {
	ID    string
	Name  string // with a slash before it
	State struct {
		Running bool
		Pid     int
	}
}

// biggest is how much of an answer is read: the largest of real ones have some 100 kB.
const biggest = 8 << 20

// Inspect asks for a container by its name, its id or the beginning of that. One that is not there is fs.ErrNotExist.
func (c *Client) Inspect(ctx context.Context, name string) (Container, error) {
	var out Container
	body, err := c.get(ctx, "/containers/"+url.PathEscape(name)+"/json")
	if err != nil {
		return out, fmt.Errorf("asking Docker for container %q: %w", name, err)
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, biggest)).Decode(&out); err != nil {
		return out, fmt.Errorf("reading what Docker says of container %q: %w", name, err)
	}
	return out, nil
}

// Endpoints tells whose the endpoints of a network are that are in a container: container ids and names by endpoint id.
func (c *Client) Endpoints(ctx context.Context, network string) (map[string]Container, error) {
	var n struct {
		Containers map[string]struct{ Name, EndpointID string }
	}
	body, err := c.get(ctx, "/networks/"+url.PathEscape(network))
	if err != nil {
		return nil, fmt.Errorf("asking Docker for network %q: %w", network, err)
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, biggest)).Decode(&n); err != nil {
		return nil, fmt.Errorf("reading what Docker says of network %q: %w", network, err)
	}
	out := make(map[string]Container, len(n.Containers))
	for id, e := range n.Containers {
		out[e.EndpointID] = Container{ID: id, Name: e.Name}
	}
	return out, nil
}

// Event is a change of a container.
type Event struct {
	Action string
	Actor  struct {
		ID         string
		Attributes struct {
			Name    string `json:"name"`
			OldName string `json:"oldName"` // of a rename, with a slash before it
		}
	}
}

// of reports whether an event may concern the container that is called so.
func (e Event) of(name string) bool {
	a := e.Actor.Attributes
	return name == a.Name || name == strings.TrimPrefix(a.OldName, "/") || strings.HasPrefix(e.Actor.ID, name)
}

// Events calls each with every start, end and renaming of a container. It calls listening when Docker listens: what happens
// from then on is told. It returns when the stream ends.
func (c *Client) Events(ctx context.Context, listening func(), each func(Event)) error {
	filters := `{"type":["container"],"event":["start","die","rename","destroy"]}`
	body, err := c.get(ctx, "/events?filters="+url.QueryEscape(filters))
	if err != nil {
		return fmt.Errorf("asking Docker for its events: %w", err)
	}
	defer body.Close()
	listening()
	for d := json.NewDecoder(body); ; {
		var e Event
		if err := d.Decode(&e); err != nil {
			return fmt.Errorf("reading Docker's events: %w", err)
		}
		each(e)
	}
}

// get asks for a path. The version is left out, so that any Docker answers (the Engine takes that for its own).
func (c *Client) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var e struct{ Message string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&e)
	if resp.StatusCode == http.StatusNotFound {
		return nil, fs.ErrNotExist
	}
	return nil, errors.New(strings.TrimSpace(resp.Status + " " + e.Message))
}

// Close gives back what connections are open.
func (c *Client) Close() { c.http.CloseIdleConnections() }
