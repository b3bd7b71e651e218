// Package speaker is netd's BGP: a process of its own that holds the sessions, and what the rest of netd says to it.
//
//	netd run                                        netd speaker (another process, another user)
//	┌────────────────────────────┐                  ┌──────────────────────────────────────┐
//	│ Supervisor  starts, adopts ├── fd 3, exec ───▶│ Serve                                │
//	│ Client.Kinds bgp path peer ├── speaker.sock ─▶│ gobgp's own gRPC API ─┐              │
//	│ Client.Watch ◀─────────────┼── paths.sock ────┤ rib ◀─ events ── gobgp ◀─ sieve ─▶ neighbours
//	└────────────────────────────┘                  └──────────────────────────────────────┘
//
// The speaker is treated as one more kernel: it is observed and changed through kinds (bgp, path, peer), compared by the
// same diff, and never remembered: an answer of its is kept only while it says that nobody changed anything since (reading.go).
// It is a process because its neighbours could kill it: gobgp v3 panics on messages that anyone with a session, or a
// configured address, may send. Those that are known do not reach it (sieve.go). It restarts gracefully (RFC 4724), so that
// the death of a speaker costs no route on either side. It outlives the daemon, and the next daemon adopts it by its socket.
//
// Two sockets in one folder of mode 0700. speaker.sock is gobgp's API, as the stock gobgp client speaks it. paths.sock is
// netd's own and carries what that API is too slow or too poor for: the best paths (100,000 in a tenth of a second), which
// neighbours are synced, and the last error of each in words. Its frames are in wire.go.
//
// What a neighbour may announce is decided twice: by the speaker's import policy, which takes from each neighbour only the
// prefixes that its resource lists, with the neighbour itself as next hop (RFC 8212: nothing is taken by default), and
// again where routes are computed, since a hostile neighbour may own the speaker.
//
// gobgp is imported nowhere else. What is where, of the daemon's end:
//
//	start supervisor settle confine listener   the process: who starts it, as whom, and ends it
//	client watch bounds wire                   what it says: paths and neighbours, never more than the file allows
//	kind_bgp kind_path kind_peer convert       what it is set to
//	policy policy_read mark                    who may tell and is told what
//	reading look untold password               its answers and tables, and what sessions are signed with
//
// and of the speaker's:
//
//	serve paths intercept                      the process and its sockets; each request that another may make
//	events best rib sets slack                 from gobgp's events to paths.sock
//	sieve sift aspath refresh                  what neighbours say, before gobgp has it
//	accept dialler ttl hangup                  connections
//	sessions recover tries expect clock        sessions that come, go and restart
//	limit count backlog                        neighbours that say too much
//	silence reason notification log            why a session is not up, in words
//	private                                    what of gobgp's no request reaches
//
// Read serve.go first for the process, client.go and kind_peer.go for the other end.
package speaker
