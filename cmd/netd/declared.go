package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/workload"
	"netd/reconcile/workload/containerd"
)

// declared are a node's workloads of the file, and where their runtimes have them now.
func (h *host) declared(ctx context.Context, c *config.Config, node config.Node) []workload.Declared {
	var out []workload.Declared
	var names []string
	for _, w := range c.Workloads {
		if w.Node != node.Name {
			continue
		}
		d := workload.Declared{Endpoint: desired.EndpointOf(w)}
		switch {
		case w.Docker != "":
			names = append(names, w.Docker)
			found := h.docker.Find(ctx, w.Docker)
			d.Container, d.Netns, d.Identity, d.Unknown = fmt.Sprintf("container %q", w.Docker), found.Netns, found.ID, found.Err
		case w.Containerd != "":
			d.Container = fmt.Sprintf("container %q", w.Containerd)
			var err error
			if d.Netns, err = (containerd.Runtime{}).Find(w.Containerd); err != nil && !errors.Is(err, fs.ErrNotExist) {
				d.Unknown = err
			}
		}
		out = append(out, d)
	}
	h.docker.Keep(names)
	return out
}

// watchedFor are the paths that tell when a node's declared containers come and go. Docker has events.
func watchedFor(c *config.Config, node config.Node) []string {
	var out []string
	for _, w := range c.Workloads {
		switch {
		case w.Node != node.Name:
		case w.Netns != "":
			out = append(out, w.Netns)
		case w.Containerd != "":
			out = append(out, containerd.Runtime{}.Path(w.Containerd))
		}
	}
	return out
}

func (h *host) dockerChanged() {
	if h.moved != nil {
		h.moved()
	}
}
