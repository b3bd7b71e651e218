#!/usr/bin/env bash
# In the guest: netd's package from installation to purge, over a boot, without Docker: docker.sh has that.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
state=/var/lib/guest
mkdir -p $state
old=$(ls /mnt/test/old/*.deb) new=$(ls /mnt/test/new/*.deb)
. /mnt/test/checks.sh
. /mnt/test/wire.sh
reach() { ip netns exec c1 ping -c1 -W1 10.10.194.134; }
mode() { sed "s/MODE/$1/" /mnt/test/netd.hcl >/etc/netd.new && mv /etc/netd.new /etc/netd.hcl; }
in_sync() { netd status; }
known() { grep -qxF -- "$1" /mnt/test/page && echo "$1" >>$state/typed || { echo "docs/how-to/install.md has no line $1"; false; }; }
page() { known "$1" && (cd /root/checkout && PATH=/root/checkout/bin:$PATH && eval "$1"); } # a line of that page, typed as it stands there, in a checkout
confirmed() { known "$1" && echo y | script -qec "$1" /dev/null; }                          # one that asks, on a terminal
untyped() { grep -vxF -e 'make deb' /mnt/test/page | grep -vxFf $state/typed; }

in_bash() { # as the package bash-completion does at a tab
	bash -c '. /usr/share/bash-completion/bash_completion
		_completion_loader netd
		COMP_WORDS=(netd pl) COMP_CWORD=1 COMP_LINE="netd pl" COMP_POINT=7 COMP_TYPE=9
		__start_netd netd pl netd 2>/dev/null # compopt misses readline
		[ "${COMPREPLY[*]}" = plan ]'
}
cat >/tmp/completes.zsh <<'ZSH' # at a terminal
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "autoload -Uz compinit && compinit -u -D; PS1='rea''dy> '"
zpty -r shell said '*ready> *' || exit 1
zpty -w -n shell $'netd vers\t'
zpty -r shell said '*netd version*'
ZSH

activates() { # as dockerd calls it first
	perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new("/run/docker/plugins/netd.sock") or die "$!";
		print $s "POST /Plugin.Activate HTTP/1.0\r\nContent-Length: 0\r\n\r\n"; print <$s>' | grep NetworkDriver
}

case $(cat $state/phase 2>/dev/null || echo install) in
install)
	say "# Install"
	mkdir -p /root/checkout/bin
	ln -s /mnt/test/old /root/checkout/dist
	printf '#!/bin/sh\nsed s/MODE/bgp/ /mnt/test/netd.hcl >"$1"\n' >/root/checkout/bin/editor
	chmod 755 /root/checkout/bin/editor
	check "the checksums are right" page '(cd dist && sha256sum -c SHA256SUMS)'
	check "the package installs" page 'dpkg -i dist/netd_*.deb'
	check "nothing was applied" empty nft list tables
	check "no daemon runs" absent systemctl is-active netd
	check "no configuration was made" absent test -e /etc/netd.hcl
	check "the manual" sh -c 'man netd >/dev/null && man netd.hcl >/dev/null'
	check "three shells" sh -c 'apt-get update -q && apt-get install -q bash-completion zsh fish'
	check "bash finds its own, and completes" in_bash
	check "zsh likewise" timeout 60 zsh -f /tmp/completes.zsh
	check "and fish" sh -c 'fish -c "complete -C \"netd pl\"" | grep "^plan"'
	check "the examples are sound" sh -c 'netd validate /usr/share/doc/netd/examples/netd.hcl && netd validate /usr/share/doc/netd/examples/reference.hcl'
	check "netd starts before Docker and containerd" sh -c 'b=" $(systemctl show -P Before netd.service) " && case $b in *" docker.service "*) ;; *) false ;; esac && case $b in *" containerd.service "*) ;; *) false ;; esac'
	check "the name of the protocol" sh -c 'ip route add blackhole 203.0.113.0/24 proto 142 && ip route show 203.0.113.0/24 | grep -q "proto netd" && ip route del 203.0.113.0/24'
	check "netd.service is hardened to 4.0" systemd-analyze security --threshold=40 --no-pager netd.service
	check "netd-speaker.service is hardened to 2.0" systemd-analyze security --threshold=20 --no-pager netd-speaker.service

	say "# Edit and start"
	cp /usr/sbin/netd /usr/local/sbin/netd-other
	up
	check "the example is the configuration" page 'cp /usr/share/doc/netd/examples/netd.hcl /etc/netd.hcl'
	check "which is edited" page 'editor /etc/netd.hcl'
	check "the plan" page 'netd plan'
	check "the daemon starts" page 'systemctl enable --now netd'
	check "the other host" systemctl start other
	eventually "in sync" in_sync
	eventually "mode bgp: from container to container" reach
	check "the speaker has a user of its own" sh -c '[ "$(stat -c %U /proc/$(systemctl show -P MainPID netd-speaker))" = netd-speaker ]'
	check "the speaker has one capability" sh -c 'grep -q "^CapEff:.0000000000000400$" /proc/$(systemctl show -P MainPID netd-speaker)/status'
	for i in 1 2 3 4 5 6; do # as often as systemd would give up
		pid=$(systemctl show -P MainPID netd-speaker)
		kill -9 "$pid"
		eventually "the speaker is started again, $i" sh -c "p=\$(systemctl show -P MainPID netd-speaker) && [ \$p != 0 ] && [ \$p != $pid ] && netd status | grep -q 'speaker pid '\$p"
	done
	check "what it wrote last is in the status, from the journal" sh -c 'netd status | grep -A4 "it died [3-6] times in the last minute" | grep -E "Main process exited|Failed with result|speaker ready|Peer Up|peer configuration|sync finished"'
	for m in vxlan ipip bgp; do # no module is loaded yet: the hardened unit has the kernel load it
		mode $m
		eventually "mode $m: from container to container" sh -c "netd status | grep -q $m && ip netns exec c1 ping -c1 -W1 10.10.194.134"
		eventually "mode $m: in sync" in_sync
	done
	printf '[Match]\nKind=veth\nName=!ens33\n\n[Network]\nLinkLocalAddressing=no\n' >/etc/systemd/network/01-veths.network
	systemctl restart systemd-networkd
	eventually "systemd-networkd starts anew" sh -c 'networkctl status ens33 | grep -q configured'
	eventually "and netd's routes are there, or back" reach
	check "netd's veth is not its own, whatever another's file says" sh -c 'networkctl --no-legend | grep netd | grep -q unmanaged'
	rm /etc/systemd/network/01-veths.network
	networkctl reload
	/lib/systemd/systemd-sysctl --prefix=/net/ipv4/conf/$(ip -br link show group 142 | sed -n 's/^\(netd[0-9a-f]*\)@.*/\1/p')
	check "the daemon hears of the containers" sh -c '! journalctl -b -u netd | grep -q CAP_NET_BROADCAST'
	eventually "sysctl.d leaves netd's settings" sh -c 'netd plan --detailed-exitcode'

	say "# Docker"
	check "no socket where there is no Docker" absent test -e /run/docker/plugins/netd.sock
	printf '#!/bin/sh\n' >/usr/bin/dockerd
	chmod 755 /usr/bin/dockerd
	check "beside a Docker, netd starts anew" systemctl restart netd
	eventually "and serves it" activates
	check "the socket is root's alone" sh -c '[ "$(stat -c %a /run/docker/plugins/netd.sock)" = 600 ]'
	check "netd is stopped" systemctl stop netd.service
	check "a call of Docker's starts it" activates
	eventually "and it runs" systemctl is-active netd
	rm /usr/bin/dockerd
	eventually "in sync" in_sync

	say "# Upgrade under a stream"
	ip netns exec c1 ping -q -i 0.005 -c 3000 10.10.194.134 >/tmp/stream &
	stream=$!
	sleep 2
	echo '# mine' >>/etc/iproute2/rt_protos.d/netd.conf
	check "the new package installs" dpkg --force-confold -i "$new"
	wait $stream
	check "no packet was lost" grep -q ' 0% packet loss' /tmp/stream
	grep transmitted /tmp/stream
	eventually "in sync" in_sync
	check "the configuration is as it was" grep -q '"bgp"' /etc/netd.hcl
	check "what was edited of the package's own is, too" sh -c 'grep -q "^# mine" /etc/iproute2/rt_protos.d/netd.conf && test -e /etc/iproute2/rt_protos.d/netd.conf.dpkg-dist'
	pid=$(systemctl show -P MainPID netd)
	kill -9 "$pid"
	eventually "a killed daemon comes back" sh -c "systemctl is-active netd && [ \"\$(systemctl show -P MainPID netd)\" != $pid ]"
	eventually "in sync" in_sync
	mkdir -p /run/systemd/system/netd.service.d # as a minute and a half of the unit's own would be
	printf '[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\n' >/run/systemd/system/netd.service.d/soon.conf
	check "the watchdog is on" sh -c '[ "$(systemctl show -P WatchdogUSec netd)" = 1min ]'
	systemctl daemon-reload
	systemctl restart netd
	eventually "in sync" in_sync
	pid=$(systemctl show -P MainPID netd)
	kill -STOP "$pid"
	eventually "a daemon that hangs is started anew" sh -c "[ \"\$(systemctl show -P MainPID netd)\" != $pid ] && systemctl is-active netd"
	rm -r /run/systemd/system/netd.service.d
	systemctl daemon-reload
	systemctl restart netd
	eventually "in sync" in_sync
	echo boot >$state/phase
	[ "$failed" = 0 ] || finish
	say "# Boot"
	sync
	systemctl reboot
	;;
boot)
	eventually "after the boot: the daemon" systemctl is-active netd
	eventually "in sync" in_sync
	eventually "from container to container" reach
	check "the modules of modules-load.d are there" sh -c 'lsmod | grep -q ^vxlan && lsmod | grep -q ^nf_tables' # vxlan: nothing else asked for it since

	say "# Remove, and come back"
	check "the package is removed, and says what stays" sh -c 'dpkg -r netd >/tmp/said 2>&1 && grep "run netd destroy before" /tmp/said'
	check "the network stays" reach
	check "the configuration stays" test -s /etc/netd.hcl
	check "and is installed again" dpkg -i "$new"
	check "the network goes" confirmed 'netd destroy'
	check "the other host's, with its speaker, too" other destroy -y
	systemctl stop other
	purged() { page 'dpkg -P netd' >/tmp/said && ! grep "network stays" /tmp/said; }
	check "the package is purged, and has nothing to say of a network" purged
	check "every line of docs/how-to/install.md was typed" empty untyped
	check "no table is left" empty nft list tables
	check "no link is left" empty ip -br link show group 142
	check "no route is left" empty ip route show proto 142
	check "no state is left" absent ls -d /var/lib/netd /run/netd
	check "no process is left" empty sh -c 'ps -eo user:20,args | grep "netd speake[r]"'
	check "no user is left" empty getent passwd netd-speaker
	check "no file is left" empty find /etc /usr/lib/systemd /usr/lib/sysctl.d /usr/share -name '*netd*' -not -path '*/other*' -not -name netd.hcl -not -name '*inetd*' -not -name '*netdev*' -not -name '*.wants'
	check "the configuration stays" test -s /etc/netd.hcl
	finish
	;;
esac
