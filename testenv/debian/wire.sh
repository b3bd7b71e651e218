# A wire to a neighbour host, which is a network namespace with a netd of its own, and containers of both. They are made anew at
# each boot, which namespaces do not outlive.
cat >/usr/local/sbin/wire <<'END'
#!/bin/bash
set -e
for ns in other c1 c2; do ip netns add $ns; ip -n $ns link set lo up; done
ip link add ens33 type veth peer name ens33 netns other
ip -n other addr add 192.168.170.138/24 dev ens33
ip -n other link set ens33 up
END
chmod 755 /usr/local/sbin/wire
cat >/etc/systemd/system/wire.service <<'END'
[Unit]
Before=netd.service systemd-networkd.service network-pre.target
Wants=network-pre.target
DefaultDependencies=no
After=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/wire
[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/system/other.service <<'END'
[Unit]
After=wire.service
ConditionPathExists=/usr/sbin/netd
[Service]
Type=notify
NetworkNamespacePath=/run/netns/other
RuntimeDirectory=other
RuntimeDirectoryMode=0755
ExecStart=/usr/local/sbin/netd-other -c /etc/netd.hcl --node baihl-node --state-dir /var/lib/other --run-dir /run/other run
KillMode=process
[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/network/20-wire.network <<'END'
[Match]
Name=ens33
[Network]
Address=192.168.170.137/24
LinkLocalAddressing=no
END
other() { ip netns exec other /usr/local/sbin/netd-other -c /etc/netd.hcl --state-dir /var/lib/other --run-dir /run/other "$@"; }
up() { # once: the wire, and what the neighbour runs; the same after each boot
	systemctl daemon-reload
	systemctl enable -q wire other
	systemctl start wire
	systemctl restart systemd-networkd
	eventually "the wire's address" sh -c 'ip addr show dev ens33 | grep -q 192.168.170.137'
}
