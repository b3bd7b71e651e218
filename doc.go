// Package netd holds the rules between the module's packages, as a test. The program is in cmd/netd; what a newcomer reads
// first is the package reconcile.
package netd
