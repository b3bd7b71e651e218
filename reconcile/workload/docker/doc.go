// Package docker finds containers of Docker: it asks the Engine's API over its socket, in plain HTTP, and listens to its
// events, so that a container is known when it starts and nothing is polled.
//
//	/run/docker.sock ── /events ──▶ Follower ── /containers/NAME/json ──▶ which network namespace NAME has now
//
// What Docker does not answer is unknown, and never absent: a container goes on without dockerd where live-restore is on.
package docker
