// Package kernel reads and changes what netd owns in the Linux kernel: one kind a file.
//
//	nft      tables inet netd and arp netd               nft.go
//	link     veth pairs, VXLAN devices, tunl0            link.go
//	sysctl   /proc/sys                                   sysctl.go
//	addr     IFA_PROTO 142                               addr.go
//	nexthop  RTM_*NEXTHOP of protocol 142                nexthop.go
//	neigh    permanent entries on links of netd          neigh.go
//	fdb      permanent entries of VXLAN devices          fdb.go
//	route    protocol 142 in the main table              route.go
//
// Everything is read anew at each call; whether an object is netd's is told by the object itself. Objects inside a
// container are reached through a socket that is opened in its network namespace and closed again, since an open socket
// keeps a namespace, and so the container's veth, alive.
//
// conn.go is the netlink socket: many requests in one send, each with its answer. wire.go is the encoding.
package kernel
