// Package router gives labs the routers of others: BIRD 2 and FRR as Debian ships them, in a network namespace, from a
// configuration as text, and a BGP speaker on a plain socket that says whatever a test wants said.
//
//	bird := router.New(t, router.BIRD, ns, `router id 192.168.170.1; …`)
//	bird.Ask("show protocols")
//	bird.Kill()    // SIGKILL: the kernel keeps its routes
//	bird.Start()   // again, as a router that recovers gracefully
//	bird.Freeze()  // SIGSTOP: it falls silent and its sockets stay open
//
// Everything ends with the test. Read router.go for processes, raw.go and message.go for the socket.
package router
