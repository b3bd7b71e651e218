#!/usr/bin/env bash
# In the guest: the faults whose mending takes systemd, apt, or a dockerd of the host's own. netd doctor names each, what it prints
# is typed as it stands, and the fault is gone; over a boot too.
set -u # no pipefail: doctor ends with 3 where something is FAIL, and what counts here is what it says
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
state=/var/lib/guest
mkdir -p $state
new=$(ls /mnt/test/new/*.deb)
. /mnt/test/checks.sh
. /mnt/test/wire.sh
mode() { sed "s/MODE/$1/" /mnt/test/netd.hcl >/etc/netd.hcl; }
named() { netd doctor >/tmp/doctor; grep -E "^(FAIL|warn) +$1 .*$2" /tmp/doctor; } # check, what is said of it
well() { netd doctor | grep -E "^ok +$1 "; }                                       # check
silent() { # of all checks
	netd doctor >/tmp/doctor
	local code=$?
	! grep -v '^ok ' /tmp/doctor && [ $code = 0 ]
}
finds() { # what, check, what is said of it, the command: which is printed below, and to be typed
	eventually "$1: named" named "$2" "$3"
	awk -v name="$2" '/^[A-Za-z]/ { on = $2 == name && $1 != "ok"; next } on { print substr($0, 7) }' /tmp/doctor >/tmp/fix
	sed 's/^/      # /' /tmp/fix
	check "$1: its command" grep -E -- "$4" /tmp/fix
}
mends() { # likewise: the command takes the fault away
	finds "$@"
	check "$1: typed" sh -e /tmp/fix
	eventually "$1: gone" well "$2"
}
unit() { # name, section, its lines: a unit of somebody else's
	printf '[Unit]\nAfter=wire.service\n[%s]\n%s\n[Install]\nWantedBy=multi-user.target\n' "$2" "$3" >"/etc/systemd/system/$1"
	systemctl daemon-reload
	check "$1 is there" systemctl enable -q --now "$1"
}
holds() { # protocol, port: the line of a unit
	echo "ExecStart=/usr/bin/perl -MIO::Socket::INET -e '\$\$s = IO::Socket::INET->new(LocalPort => $2, Proto => \"$1\"$([ $1 = udp ] || echo ', Listen => 1')) or die \"\$\$@\"; sleep'"
}
anew() { # address: systemd-networkd sets up ens33 again, on which another program has a route, and is done when the address is there
	ip route replace 192.0.2.0/24 dev ens33 proto 77
	echo "Address=$1/32" >>/etc/systemd/network/20-wire.network.d/more.conf
	check "ens33 is set up anew" sh -c 'networkctl reload && networkctl reconfigure ens33'
	eventually "which is done" sh -c "ip addr show dev ens33 | grep $1/32"
}
unkept() { # as a clock is that nobody has set for long: adjtimex(2) with ADJ_STATUS, STA_UNSYNC
	perl -e '$t = pack "I x4 x32 i x4 x200", 0x10, 0x40; syscall(159, $t) >= 0 or die "$!"'
}

case $(cat $state/phase 2>/dev/null || echo install) in
install)
	say "# What doctor looks with"
	check "the package installs" dpkg -i "$new"
	cp /usr/sbin/netd /usr/local/sbin/netd-other
	mode vxlan
	up
	check "what there is to install" apt-get update -q
	check "nft goes" dpkg -r --force-depends nftables
	mends "no nft" firewall 'nft is not installed' '^apt-get install nftables '
	check "ip goes" dpkg -r --force-depends iproute2
	mends "no ip" neighbours 'ip is not installed' '^apt-get install iproute2$'

	say "# A copy of another node"
	check "it has the other's name" hostnamectl set-hostname baihl-node
	check "and an address that is no node's" sh -c 'ip addr add 192.168.170.139/24 dev ens33 && ip addr del 192.168.170.137/24 dev ens33'
	finds "which one it is" address "node's address 192.168.170.138, which $(ip -n other -br link show ens33 | awk '{ print $3 }') on ens33 has" '^hostnamectl set-hostname NAME '
	sed -i s/NAME/baihl-master/ /tmp/fix
	check "it gets its own name" sh -e /tmp/fix
	mends "whose address it has not" address "no link of this host holds the node's address 192.168.170.137$" '^ip addr add 192.168.170.137/24 dev ens33 '
	ip addr del 192.168.170.139/24 dev ens33

	say "# Who has the ports"
	unit holder.service Service "$(holds udp 4789)"
	mends "a service has VXLAN's" udp-port 'UDP port 4789 is held by pid [0-9]+ \(/usr/bin/perl' "^systemctl disable --now 'holder.service' "
	printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/taker.service
	unit taker.socket Socket ListenDatagram=4789
	finds "a socket unit has it" udp-port 'UDP port 4789 is held by pid 1 ' '^systemctl list-sockets --all '
	check "its name" sh -c 'sh -e /tmp/fix | grep "4789 *taker.socket"'
	check "which is disabled, as is said" systemctl disable --now taker.socket
	check "gone" well udp-port
	mode bgp
	unit router.service Service "$(holds tcp 179)"
	mends "a service has BGP's" bgp-port 'TCP port 179 is held by pid [0-9]+ \(/usr/bin/perl' "^systemctl disable --now 'router.service' "

	say "# systemd-networkd"
	mkdir -p /etc/systemd/networkd.conf.d /etc/systemd/network/20-wire.network.d
	# With the last address of a link the kernel takes its routes, and those of its own file networkd takes off for a moment.
	printf '[Network]\nKeepConfiguration=static\n' >/etc/systemd/network/20-wire.network.d/more.conf
	ip addr add 203.0.113.9/32 dev ens33
	printf '[Network]\nManageForeignRoutes=yes\n' >/etc/systemd/networkd.conf.d/zzz.conf
	check "it is told to take routes away" systemctl restart systemd-networkd
	anew 203.0.113.1
	check "the route is gone" empty ip route show proto 77
	mends "that it is told to" networkd '/etc/systemd/networkd.conf.d/zzz.conf has it yes' '^systemctl restart systemd-networkd '
	anew 203.0.113.2
	check "the route stays" ip route del 192.0.2.0/24 proto 77

	say "# Clocks"
	mkdir -p /etc/systemd/timesyncd.conf.d
	printf '[Time]\nNTP=192.168.170.138\n' >/etc/systemd/timesyncd.conf.d/own.conf
	cat >/usr/local/sbin/tells-time <<-'PERL'
		#!/usr/bin/perl
		# The time, by SNTP (RFC 4330).
		use IO::Socket::INET;
		my $s = IO::Socket::INET->new(LocalPort => 123, Proto => "udp") or die "$@";
		while (defined $s->recv(my $asked, 512)) {
			my $now = pack "N2", time + 2208988800, 0;
			$s->send(pack "C3 c N2 a4 a8 a8 a8 a8", 0x24, 1, 6, -20, 0, 0, "LOCL", $now, substr($asked, 40, 8), $now, $now);
		}
	PERL
	chmod 755 /usr/local/sbin/tells-time
	unit tells-time.service Service $'NetworkNamespacePath=/run/netns/other\nExecStart=/usr/local/sbin/tells-time'
	mends "nobody keeps this one, and no program is there that would" clocks "nothing keeps this host's clock" '^apt-get install systemd-timesyncd && timedatectl set-ntp true$'
	check "the program is told to rest" timedatectl set-ntp false
	check "which was long ago" unkept
	mends "nobody keeps this one" clocks "nothing keeps this host's clock" '^timedatectl set-ntp true$'
	ahead=$((($(date +%s) + 90) % 86400 * 1000)) # what the other host says that its clock is at
	check "another node has another time" ip netns exec other nft "add table ip clock; add chain ip clock out { type filter hook output priority 0; }; add rule ip clock out icmp type timestamp-reply @th,96,32 set $ahead @th,128,32 set $ahead"
	finds "that one is ahead" clocks 'the clock of node baihl-node \(192.168.170.138\) is .* ahead of' '^timedatectl timesync-status '
	check "what this one is kept by" sh -c 'sh -e /tmp/fix | grep "Server: 192.168.170.138"'
	check "the other one is set right" ip netns exec other nft delete table ip clock
	check "gone" well clocks

	say "# Docker"
	check "iptables comes" apt-get install -q iptables busybox-static
	check "and is that of old" update-alternatives --set iptables /usr/sbin/iptables-legacy
	check "Docker is installed" apt-get install -q docker.io
	root=$(mktemp -d)
	mkdir "$root/bin"
	cp /bin/busybox "$root/bin/sleep"
	check "an image" sh -c "tar -C $root -c . | docker import - sleep:lab"
	mode vxlan
	check "a container with the port of VXLAN" docker run -d --name taker -p 4789:9/udp sleep:lab sleep 1000000
	finds "a container's port is VXLAN's" udp-port 'UDP port 4789 is held by pid [0-9]+ \(/usr/s?bin/docker-proxy' '^docker ps '
	check "its name" sh -c 'sh -e /tmp/fix | grep "4789->9/udp.* taker$"'
	check "which goes, as is said" docker rm -f taker
	check "gone" well udp-port
	finds "Docker's rules are of the old kind, and close this host" legacy-iptables 'the FORWARD policy of iptables-legacy is DROP' '^iptables-legacy -I FORWARD '
	check "typed" sh -e /tmp/fix
	finds "are of the old kind" legacy-iptables 'iptables-legacy has the tables ' '^update-alternatives --set iptables /usr/sbin/iptables-nft '
	check "typed, too" sh -e /tmp/fix
	check "what wrote them starts anew, as is said" systemctl restart docker
	check "and writes rules of nftables" sh -c 'iptables -V | grep nf_tables && iptables -S DOCKER'
	check "the others go with the next boot, as is said" named legacy-iptables 'iptables-legacy has the tables '

	say "# All of it"
	mode bgp
	check "the daemon starts" systemctl enable -q --now netd
	check "the other host" systemctl start other
	eventually "in sync" netd status
	echo boot >$state/phase
	[ "$failed" = 0 ] || finish
	sync
	systemctl reboot
	;;
boot)
	say "# Boot"
	eventually "the daemon runs" systemctl is-active netd
	eventually "Docker runs" docker version
	eventually "in sync" netd status
	eventually "doctor has nothing to say" silent
	check "the clock's keeper is enabled" systemctl is-enabled systemd-timesyncd
	check "the others are not" sh -c '! systemctl is-enabled holder.service && ! systemctl is-enabled router.service && ! systemctl is-enabled taker.socket'
	finish
	;;
esac
