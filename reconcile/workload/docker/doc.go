// Package docker is netd beside Docker, in two ways. It finds containers that the file declares: it asks the Engine's API over
// its socket, in plain HTTP, and listens to its events, so that a container is known when it starts and nothing is polled.
//
//	/run/docker.sock ── /events ──▶ Follower ── /containers/NAME/json ──▶ which network namespace NAME has now
//
// What Docker does not answer is unknown, and never absent: a container goes on without dockerd where live-restore is on.
//
// And it is a network and IPAM driver (Plugin), which dockerd calls over a socket of netd's. What `docker run --network` makes
// of it, in Docker 20.10:
//
//	RequestAddress  an address, promised (workload.Core.Promise): Docker does not say for whom
//	CreateEndpoint  the host's side: the pair with both ends in the host's namespace, addresses, routes, guards
//	Join            the name of the container's end, its gateway 169.254.1.1 and the route to that on the link
//	   runc create: Docker moves the end, names it eth0, gives it MAC, address and routes, the default route last
//	   netd sees that by the kernel's events (workload.Core.Settle): the endpoint is like any other from here on
//	   runc start: the first process
//	Leave           Docker moves the end back
//	DeleteEndpoint  the host's side goes, the address is free
//
// The sandbox that Join names is no namespace yet, and nothing is called after it is one. So all that a container needs is made
// before, on the host's side, or given to Docker: it has its network before its first process runs, be the daemon there at
// that moment or not. What Docker put on the link counts as netd's where netd wants just that (kernel: place.handed), and
// comes back with netd's mark when somebody takes it away. Which of two networks has the default route is Docker's to say;
// netd's gives way (object.Endpoint.Beside). Of several of netd's Docker hears of a gateway by the first alone, there being one place
// for the route to it; when that leaves, netd gives the default route and the published ports to the next (object.Endpoint.Second).
//
// Nothing is remembered of networks and pools: a pool's id says what it is, an address whose network it is of. Docker must not be
// asked anything within a call, for which it holds locks.
package docker
