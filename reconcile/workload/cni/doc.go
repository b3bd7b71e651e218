// Package cni is netd as a plugin of the Container Network Interface, versions 0.3.1 to 1.1.0 of its specification
// (https://www.cni.dev/docs/spec/).
//
//	runtime ──env, stdin──▶ netd-cni ──netd.sock──▶ netd run ─┐
//	                           └──(no daemon)──▶ netd cni ────┴▶ Run ─▶ workload.Core
//	runtime ◀──stdout, exit code───────────────────────────────┘
//
// Run is the whole plugin without its process: what a runtime gives in its environment and on standard input, and what it
// gets back. The front, cmd/netd-cni, knows none of it.
package cni
