package kernel

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Settings net.ipv4.conf.<link>.… of one link can be set by one message. A write to the file of forwarding has the kernel forget
// all cached routes of the host (net/ipv4/devinet.c, devinet_sysctl_forward), spins where others hold the lock of
// rtnetlink, and, as those of the others do, sends an event that does not say whose doing it was. A message does none of that.

// devconf are the numbers of such settings (include/uapi/linux/ip.h, IPV4_DEVCONF_…).
var devconf = map[string]uint16{"forwarding": 1, "proxy_arp": 3, "rp_filter": 8}

const iflaInetConf = 1 // IFLA_INET_CONF

// inOne are the first of changes, as far as they are such settings of one link of netd's.
func inOne(changes []reconcile.Change) []reconcile.Change {
	of := ""
	for i, c := range changes {
		w, ok := c.Want.(object.Sysctl)
		if ok && i == 0 {
			of = w.Link()
		}
		if _, _, is := asDevconf(w); !ok || !is || w.Link() != of {
			return changes[:i]
		}
	}
	return changes
}

// asDevconf is the number of a setting and what it is to be; ok is false where it is no such setting of a link of netd's.
func asDevconf(s object.Sysctl) (number uint16, value uint32, ok bool) {
	if s.In != "" || !strings.HasPrefix(s.Name, "net.ipv4.conf.") || !withLink(s) {
		return 0, 0, false
	}
	number, ok = devconf[s.Name[strings.LastIndexByte(s.Name, '.')+1:]]
	v, err := strconv.ParseInt(s.Value, 10, 32)
	return number, uint32(v), ok && err == nil
}

// setInOne sets settings of one link of netd's.
func (s sysctls) setInOne(changes []reconcile.Change, links linkTable) error {
	of := changes[0].Want.(object.Sysctl).Link()
	l, err := links.own(of)
	if err != nil {
		return fmt.Errorf("setting net.ipv4.conf of %s: %w", of, err)
	}
	var conf, inet, families encoder
	for _, c := range changes {
		number, value, _ := asDevconf(c.Want.(object.Sysctl))
		conf.u32(number, value)
	}
	inet.attr(iflaInetConf|unix.NLA_F_NESTED, conf.b)
	families.attr(unix.AF_INET|unix.NLA_F_NESTED, inet.b)
	b := &batch{}
	b.begin(unix.RTM_NEWLINK, 0)
	b.ifinfo(l.index, 0, 0)
	b.attr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, families.b)
	b.end()
	if err := s.k.c.run(b, nil)[0]; err != nil {
		return fmt.Errorf("setting net.ipv4.conf of %s: %w", of, err)
	}
	return nil
}
