package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"netd/reconcile/object"
)

// publish comes for the one of a container's networks that has its default route, when that is joined.
func (p Plugin) publish(ctx context.Context, in endpointRequest) (any, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	ports, err := in.ports()
	if err != nil || len(ports) == 0 {
		return struct{}{}, err
	}
	return struct{}{}, p.Attacher.Publish(ctx, id, ports)
}

func (p Plugin) unpublish(ctx context.Context, in endpointRequest) (any, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.Attacher.Publish(ctx, id, nil)
}

// portBinding is one of libnetwork's (types.PortBinding). HostPort to HostPortEnd are those to choose from.
type portBinding struct {
	Proto                       uint8
	Port, HostPort, HostPortEnd uint16
	HostIP                      string
}

// mostPorts is how many ports one container may have published.
const mostPorts = 1024

// ports are those that docker is to publish for the endpoint. Which one was chosen where docker leaves the choice it does not
// let a driver tell, so that nobody would find it.
func (in endpointRequest) ports() (ports []object.Port, err error) {
	var bindings []portBinding
	if b, ok := in.Options["com.docker.network.portmap"]; ok {
		if err := json.Unmarshal(b, &bindings); err != nil {
			return nil, fmt.Errorf("reading the published ports: %w", err)
		}
	}
	if len(bindings) > mostPorts {
		return nil, fmt.Errorf("-p: %d ports; netd publishes %d of a container at most", len(bindings), mostPorts)
	}
	for _, b := range bindings {
		port := object.Port{On: b.HostPort, Port: b.Port}
		switch b.Proto {
		case 6:
			port.Proto = "tcp"
		case 17:
			port.Proto = "udp"
		default:
			return nil, fmt.Errorf("-p: netd publishes tcp and udp, not IP protocol %d", b.Proto)
		}
		if b.HostIP != "" {
			if port.At, err = netip.ParseAddr(b.HostIP); err != nil || port.At.Zone() != "" {
				return nil, fmt.Errorf("-p: %q is no address", b.HostIP)
			}
			port.At = port.At.Unmap()
		}
		switch {
		case b.Port == 0:
			return nil, errors.New("-p: port 0 of the container")
		case b.HostPort == 0, b.HostPortEnd != 0 && b.HostPortEnd != b.HostPort:
			return nil, fmt.Errorf("-p: say which port of the host leads to %d/%s (-p 8080:%[1]d/%[2]s): docker does not tell which one a driver chose", b.Port, port.Proto)
		case port.At.Is6() && port.At.IsLoopback():
			return nil, fmt.Errorf("-p %s: the kernel leads nothing from ::1 to a container; publish at 127.0.0.1", port)
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports, nil
}
