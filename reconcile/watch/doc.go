// Package watch tells when something may have changed: the kernel's objects, the configuration, the containers' namespaces.
// What it delivers are hints, not facts: one may come for nothing, several may come as one, and the loop reads what is.
//
//	rtnetlink, nftables ──kernel.go──▶ message ──hint.go──▶ keys ──▶ a narrow pass
//	                                      └──────who.go──▶ who sent the request, where that is certain
//	inotify ──file.go──▶ a whole pass
//
// What a message does not say for certain asks for a whole pass.
package watch
