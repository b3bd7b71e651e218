#!/usr/bin/env bash
# In the guest: netd's package beside Debian's Docker, as a host would have them. Docker is installed after netd; the package is
# upgraded under a stream of packets in each mode; and after each boot netd's routes are there before dockerd is, and Docker's
# containers are back with their addresses.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
state=/var/lib/guest
mkdir -p $state
old=$(ls /mnt/test/old/*.deb) new=$(ls /mnt/test/new/*.deb)
. /mnt/test/checks.sh
. /mnt/test/wire.sh
web=10.10.40.150 declared=10.10.40.140 far=10.10.194.134
mode() { sed "s/MODE/$1/" /root/netd.hcl >/etc/netd.new && mv /etc/netd.new /etc/netd.hcl; }
in_mode() { netd status | grep "$1" >/dev/null && netd status; } # no -q: a pipe that is closed early would be netd's failure
serves() ( # from another host's container: what runs in the container is what answers at its address
	set -ex
	ip netns exec c2 busybox wget -T 5 -O- "http://$web"
	ip netns exec c2 ping -c1 -W2 $declared
	docker exec web ping -c1 -W2 $far
	docker exec declared ping -c1 -W2 $far
)
stamp() { systemctl show -P "$2TimestampMonotonic" "$1"; }

case $(cat $state/phase 2>/dev/null || echo install) in
install)
	say "# Docker comes to a host with netd"
	check "the package installs" dpkg -i "$old"
	cp /usr/sbin/netd /usr/local/sbin/netd-other
	cat /mnt/test/netd.hcl - >/root/netd.hcl <<-HCL

		workload "declared" {
		  node    = "baihl-master"
		  address = "$declared"
		  docker  = "declared"
		}
	HCL
	mode vxlan
	up
	check "the daemon starts" systemctl enable -q --now netd
	check "the other host" systemctl start other
	check "no socket where there is no Docker" absent test -e /run/docker/plugins/netd.sock
	check "what there is to install" apt-get update -q
	check "Docker is installed" apt-get install -q docker.io busybox-static
	check "and runs" docker version
	check "beside it, netd starts anew" systemctl restart netd
	check "the socket is root's alone" sh -c '[ "$(stat -c %a /run/docker/plugins/netd.sock)" = 600 ]'
	root=$(mktemp -d)
	mkdir -p "$root/bin" "$root/www"
	cp /bin/busybox "$root/bin/busybox"
	for name in sh httpd ping sleep; do ln -s busybox "$root/bin/$name"; done
	echo "This is web." >"$root/www/index.html"
	check "an image" sh -c "tar -C $root -c . | docker import - busybox:lab"
	check "Docker's network" netd docker install
	check "a container on it" docker run -d --restart=always --network lab --ip $web --name web busybox:lab httpd -f -h /www
	check "a container that the file names" docker run -d --restart=always --network none --name declared busybox:lab sleep 1000000
	eventually "in sync" in_mode vxlan
	eventually "both are reached, and reach" serves
	check "while Docker drops what it does not know" sh -c 'iptables -S FORWARD | grep -x -e "-P FORWARD DROP"'
	check "netd is stopped" systemctl stop netd.service
	check "a call of Docker's starts it" docker run --rm --network lab busybox:lab ping -c1 -W5 $far
	check "and it runs" systemctl is-active netd
	eventually "in sync" in_mode vxlan

	# The stream is of Docker's own container, by the wire and back; what a mode has of the kernel's carries it meanwhile.
	for step in "bgp $new" "ipip $old" "vxlan $new"; do
		read -r m package <<<"$step"
		say "# Upgrade under a stream: $m"
		mode $m
		eventually "in sync" in_mode $m
		eventually "both are reached, and reach" serves
		daemon=$(systemctl show -P MainPID netd)
		ip netns exec c2 ping -q -i 0.001 -c 30000 $web >/tmp/stream &
		stream=$!
		sleep 1
		check "the package installs" dpkg -i "$package"
		check "the daemon is another" sh -c "[ \$(systemctl show -P MainPID netd) != $daemon ]"
		eventually "in sync" in_mode $m
		check "the stream has outlasted it" kill -0 $stream
		wait $stream
		check "no packet was lost" grep -q ' 0% packet loss' /tmp/stream
		grep transmitted /tmp/stream
		check "the configuration is as it was" grep -q "\"$m\"" /etc/netd.hcl
	done
	# What is there when dockerd is about to start.
	mkdir -p /etc/systemd/system/docker.service.d
	printf '[Service]\nExecStartPre=/bin/sh -c "ip route show proto 142 >/run/before-docker; ip netns exec c1 ip route >>/run/before-docker"\n' >/etc/systemd/system/docker.service.d/before.conf
	echo vxlan >$state/phase
	[ "$failed" = 0 ] || finish
	sync
	systemctl reboot
	;;
vxlan | ipip)
	m=$(cat $state/phase)
	say "# Boot: $m"
	eventually "the daemon runs" systemctl is-active netd
	eventually "Docker runs" docker version
	eventually "both containers are reached, and reach" serves
	eventually "in sync" in_mode $m
	route="10.10.194.128/26 via .* $([ $m = ipip ] && echo "dev tunl0" || echo "dev vxlan.netd")"
	check "before dockerd the way to the other host was there" grep "$route" /run/before-docker
	check "and the container of the file's that is not Docker's" sh -c 'grep "^10.10.40.129 dev netd" /run/before-docker && grep "^default via 169.254.1.1" /run/before-docker'
	check "netd was ready before dockerd began" [ "$(stamp netd ActiveEnter)" -lt "$(stamp docker ExecMainStart)" ]
	check "the container has its address" sh -c "[ \$(docker inspect -f '{{.NetworkSettings.Networks.lab.IPAddress}}' web) = $web ]"
	check "nobody had to start it anew" sh -c '[ "$(docker inspect -f "{{.RestartCount}} {{.State.Status}}" web)" = "0 running" ]'
	say "      seconds after the kernel: netd ready $(stamp netd ActiveEnter), dockerd begins $(stamp docker ExecMainStart) and is ready $(stamp docker ActiveEnter)" | sed -E 's/([0-9]+)([0-9]{6})/\1.\2/g'
	if [ $m = vxlan ]; then
		mode ipip
		eventually "in sync" in_mode ipip
		echo ipip >$state/phase
		[ "$failed" = 0 ] || finish
		sync
		systemctl reboot
		exit
	fi

	say "# Remove, and come back"
	check "the package is removed" dpkg -r netd
	check "the network stays" serves
	check "it is installed again" dpkg -i "$new"
	check "the daemon starts" systemctl enable -q --now netd
	eventually "in sync" in_mode ipip
	check "a container starts anew" docker restart -t 0 web
	eventually "both are reached, and reach" serves
	check "Docker's containers go" docker rm -f web declared
	check "and its network" docker network rm lab
	check "the network goes" netd destroy -y
	check "the package is purged" dpkg -P netd
	check "no link is left" empty ip -br link show group 142
	check "no route is left" empty ip route show proto 142
	check "no rule of netd's is left in Docker's chains" absent sh -c 'iptables-save | grep netd'
	check "Docker runs" docker run --rm busybox:lab ping -c1 -W5 172.17.0.1
	finish
	;;
esac
