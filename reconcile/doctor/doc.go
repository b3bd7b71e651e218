// Package doctor knows the faults of hosts that break networks like netd's, each as a check: what it looks at, what it found,
// and how that is mended. It reads the host through Host and the wire through Wire, so that each check is a function of what
// they say, and changes nothing.
//
// Checks, in checks.go, is the list. A file holds the checks of one subject: the kernel, ports, routes, those who manage
// links, the firewalls of others, the wire.
package doctor
