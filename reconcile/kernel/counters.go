package kernel

import (
	"errors"

	"golang.org/x/sys/unix"
)

const iflaStats64 = 23 // IFLA_STATS64

// Packets are the packets that went through the host's end of a veth: in from the container, out to it.
func (k *Kernel) Packets(link string) (in, out uint64, there bool, err error) {
	var req encoder
	req.ifinfo(0, 0, 0)
	req.attr(unix.IFLA_IFNAME, cString(link))
	err = k.c.get(unix.RTM_GETLINK, 0, req.b, func(body []byte) error {
		there = true
		for a := range attributes(body[min(unix.SizeofIfInfomsg, len(body)):]) {
			if a.typ == iflaStats64 && len(a.data) >= 16 { // struct rtnl_link_stats64: rx_packets, tx_packets
				in, out = native.Uint64(a.data), native.Uint64(a.data[8:])
			}
		}
		return nil
	})
	if errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return in, out, there, err
}
