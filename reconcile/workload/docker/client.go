package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
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
		Error   string // why it could not be started the last time
	}
	HostConfig struct {
		RestartPolicy struct{ Name string }
	}
	NetworkSettings struct {
		Networks map[string]struct{ NetworkID string }
	}
}

// biggest is how much of an answer is read: the largest of real ones have some 100 kB.
const biggest = 8 << 20

// shortID is how many digits of an id docker ps shows.
const shortID = 12

// Inspect asks for a container by its name, its id or as much of that as docker ps shows. One that is not there is fs.ErrNotExist.
func (c *Client) Inspect(ctx context.Context, name string) (out Container, err error) {
	what, id := fmt.Sprintf("container %q", name), name
	if len(name) < shortID && strings.Trim(name, "0123456789abcdef") == "" { // where none has that name, Docker takes it for an id's beginning
		if id, err = c.named(ctx, name, what); err != nil {
			return out, err
		}
	}
	err = c.ask(ctx, "/containers/"+url.PathEscape(id)+"/json", what, &out)
	return out, err
}

// named is the id of the container that has a name.
func (c *Client) named(ctx context.Context, name, what string) (id string, err error) {
	var list []struct {
		ID    string
		Names []string // each with a slash before it
	}
	filters := url.QueryEscape(`{"name":["^/` + name + `$"]}`)
	if err := c.ask(ctx, "/containers/json?all=1&filters="+filters, what, &list); err != nil {
		return "", err
	}
	for _, x := range list {
		if slices.Contains(x.Names, "/"+name) {
			return x.ID, nil
		}
	}
	return "", fmt.Errorf("asking Docker for %s: %w", what, fs.ErrNotExist)
}

// Network is a network of Docker's.
type Network struct {
	Name       string
	ID         string `json:"Id"`
	Driver     string
	EnableIPv6 bool
	IPAM       IPAM
	Options    map[string]string

	// By container id, those that are in it.
	Containers map[string]struct{ Name, EndpointID string } `json:",omitempty"`
}

// IPAM is where the addresses of a network come from.
type IPAM struct {
	Driver string
	Config []Subnet
}

// Subnet is one pool of a network.
type Subnet struct{ Subnet string }

// InspectNetwork asks for a network by its name or id. One that is not there is fs.ErrNotExist.
func (c *Client) InspectNetwork(ctx context.Context, name string) (Network, error) {
	var n Network
	err := c.ask(ctx, "/networks/"+url.PathEscape(name), fmt.Sprintf("network %q", name), &n)
	if err == nil && n.Name != name && n.ID != name { // Docker takes a name that none has for an id's beginning
		err = fmt.Errorf("asking Docker for network %q: %w", name, fs.ErrNotExist)
	}
	return n, err
}

// CreateNetwork makes a network.
func (c *Client) CreateNetwork(ctx context.Context, n Network) error {
	b, err := json.Marshal(struct {
		Network
		CheckDuplicate bool
	}{n, true})
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, "/networks/create", bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("having Docker make the network %q: %w", n.Name, err)
	}
	return body.Close()
}

// Stopped are the ids of the containers that do not run.
func (c *Client) Stopped(ctx context.Context) ([]string, error) {
	var list []struct{ ID string }
	filters := url.QueryEscape(`{"status":["created","exited"]}`)
	if err := c.ask(ctx, "/containers/json?all=1&filters="+filters, "its containers", &list); err != nil {
		return nil, err
	}
	var ids []string
	for _, x := range list {
		ids = append(ids, x.ID)
	}
	return ids, nil
}

// Start starts a container. One that runs is no error.
func (c *Client) Start(ctx context.Context, id string) error {
	body, err := c.do(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/start", nil)
	if err != nil {
		return fmt.Errorf("having Docker start container %s: %w", id, err)
	}
	return body.Close()
}

// ask asks for a path and reads the answer.
func (c *Client) ask(ctx context.Context, path, what string, into any) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return fmt.Errorf("asking Docker for %s: %w", what, err)
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, biggest)).Decode(into); err != nil {
		return fmt.Errorf("reading what Docker says of %s: %w", what, err)
	}
	return nil
}

// Endpoints tells whose the endpoints of a network are that are in a container: container ids and names by endpoint id.
func (c *Client) Endpoints(ctx context.Context, network string) (map[string]Container, error) {
	n, err := c.InspectNetwork(ctx, network)
	if err != nil {
		return nil, err
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

// Events calls each with what becomes of containers: those of the actions ("start", "die", "rename", "destroy"). It calls
// listening when Docker listens: what happens from then on is told. It returns when the stream ends.
func (c *Client) Events(ctx context.Context, actions []string, listening func(), each func(Event)) error {
	filters, err := json.Marshal(map[string][]string{"type": {"container"}, "event": actions})
	if err != nil {
		return err
	}
	body, err := c.get(ctx, "/events?filters="+url.QueryEscape(string(filters)))
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

// get asks for a path.
func (c *Client) get(ctx context.Context, path string) (io.ReadCloser, error) {
	return c.do(ctx, http.MethodGet, path, nil)
}

// do has the Engine do something. The version is left out, so that any Docker answers (the Engine takes that for its own).
func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
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
