package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"netd/config"
	"netd/reconcile/workload/docker"
)

func (a *app) dockerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "docker",
		Short:   "Docker's networks of the driver netd",
		Long:    "What Docker has to be told, once on each host, to run containers on a network of the file: docker run --network NAME.",
		Example: "  netd docker install",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return fail(exitUsage, "docker what? install")
		},
	}
	cmd.AddCommand(a.dockerInstallCmd())
	return cmd
}

func (a *app) dockerInstallCmd() *cobra.Command {
	var network, name string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have Docker on this host know the network",
		Long: `Make Docker's network of the driver netd on this host, of the name that the file has for it, with the pools that this node has
blocks of. One that is there as it should be stays as it is; another is an error, and nothing is changed. The daemon has to
run, and to serve Docker.`,
		Example: "  netd docker install\n  netd docker install --network lab --name backend",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.dockerInstall(cmd.Context(), network, name)
		},
	}
	cmd.Flags().StringVar(&network, "network", "", "the network of the file; needed where it has several")
	cmd.Flags().StringVar(&name, "name", "", "what Docker calls it; not given: as the file does")
	return cmd
}

func (a *app) dockerInstall(ctx context.Context, network, name string) error {
	_, c, err := a.load(a.config)
	if err != nil {
		return err
	}
	if network, err = oneNetwork(c, network); err != nil {
		return err
	}
	client, err := a.dialDaemon(ctx)
	if err != nil {
		return err
	}
	if client == nil {
		return fail(exitNoDaemon, "no daemon runs here, which Docker asks for everything of such a network: start it (systemctl start netd)")
	}
	var status statusView
	if err := client.do(ctx, "GET", "/v1/status", request{}, &status); err != nil {
		return err
	}
	if _, err := os.Stat(docker.PluginSocket); errors.Is(err, fs.ErrNotExist) {
		return fail(exitFailed, "the daemon does not serve Docker: %s is not there; start netd-docker.socket (systemctl restart netd), or netd run with --docker-socket %[1]s", docker.PluginSocket)
	}
	want, err := dockerNetwork(c, status.Node, network)
	if err != nil {
		return err
	}
	want.Name = cmp.Or(name, want.Name)
	defer a.waiting("Docker")()
	engine := docker.Open(docker.Socket)
	defer engine.Close()
	have, err := engine.InspectNetwork(ctx, want.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !docker.Away(err):
		if err := engine.CreateNetwork(ctx, want); err != nil {
			return fail(exitFailed, "%w", err)
		}
	case docker.Away(err):
		return fail(exitFailed, "Docker does not run here, or listens elsewhere than at %s: start it (systemctl start docker)", docker.Socket)
	case err != nil:
		return fail(exitFailed, "%w", err)
	case slices.Contains([]string{"bridge", "host", "none"}, want.Name):
		return fail(exitFailed, "Docker has a network %q of its own: choose another name with --name", want.Name)
	default:
		if differs := differ(have, want); differs != "" {
			return fail(exitFailed, "Docker has a network %q already, %s: docker network rm %[1]s, or choose another name with --name", want.Name, differs)
		}
	}
	fmt.Fprintln(a.out, want.Name)
	return nil
}

// oneNetwork is the network that is named, or the file's only one.
func oneNetwork(c *config.Config, named string) (string, error) {
	var names []string
	for _, n := range c.Networks {
		names = append(names, n.Name)
	}
	switch {
	case named == "" && len(names) == 1:
		return names[0], nil
	case named == "":
		return "", fail(exitUsage, "the file has the networks %s: say which one with --network", strings.Join(names, ", "))
	case !slices.Contains(names, named):
		return "", fail(exitUsage, "--network %s: the file has %s", named, strings.Join(names, ", "))
	}
	return named, nil
}

// dockerNetwork is a network of the file as Docker is to have it on a node.
func dockerNetwork(c *config.Config, node, network string) (docker.Network, error) {
	self, ok := c.Node(node)
	if !ok {
		return docker.Network{}, fail(exitConfig, "this host's node is not known yet (see netd status)")
	}
	out := docker.Network{Name: network, Driver: "netd", IPAM: docker.IPAM{Driver: "netd"}, Options: map[string]string{"network": network}}
	v4 := false
	for _, n := range c.Networks {
		if n.Name != network {
			continue
		}
		blocks := c.BlocksIn(self, n.Name)
		for _, p := range n.Pools {
			if slices.ContainsFunc(blocks, p.Overlaps) {
				out.IPAM.Config = append(out.IPAM.Config, docker.Subnet{Subnet: p.String()})
				v4, out.EnableIPv6 = v4 || p.Addr().Is4(), out.EnableIPv6 || p.Addr().Is6()
			}
		}
	}
	if !v4 {
		return out, fail(exitConfig, "node %q has no IPv4 block in network %q, and so no address for a container of Docker: add one to its blocks, %s:%d",
			self.Name, network, self.BlocksPos.File, self.BlocksPos.Line)
	}
	return out, nil
}

// differ says in what a network that Docker has is not as it should be; empty: in nothing that matters.
func differ(have, want docker.Network) string {
	subnets := func(n docker.Network) string {
		var out []string
		for _, s := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(s.Subnet); err == nil {
				out = append(out, p.String())
			}
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	switch {
	case have.Driver != want.Driver:
		return fmt.Sprintf("of the driver %s", have.Driver)
	case subnets(have) != subnets(want):
		return fmt.Sprintf("with the subnets %s where the file has %s", cmp.Or(subnets(have), "of its own choice"), subnets(want))
	case have.EnableIPv6 != want.EnableIPv6:
		return fmt.Sprintf("with IPv6 %t where the file has %t", have.EnableIPv6, want.EnableIPv6)
	}
	return ""
}
