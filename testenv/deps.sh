#!/usr/bin/env bash
# Installs what the tests and the demo use, where it is missing. Elsewhere than on Debian and its kin it says what to install.
set -euo pipefail

need=()
want() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || need+=("$2"); }
want ip iproute2
want nft nftables
want ping iputils-ping
want tcpdump tcpdump
want ethtool ethtool
want dnsmasq dnsmasq-base
want socat socat
want bird bird2
[ -x /usr/lib/frr/bgpd ] || need+=(frr)
want sysctl procps
want modprobe kmod
want containerd containerd
want dockerd docker.io
want docker-compose docker-compose
want iptables iptables
[ -x /usr/lib/cni/ptp ] || need+=(containernetworking-plugins)
[ -x /usr/bin/busybox ] && ! ldd /usr/bin/busybox >/dev/null 2>&1 || need+=(busybox-static)
want qemu-system-x86_64 qemu-system-x86
want qemu-img qemu-utils
want mmdebstrap mmdebstrap
want rpmbuild rpm
want jq jq

[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "Install these first (Debian's names): ${need[*]}" >&2
	exit 1
fi
echo "Installing with apt: ${need[*]}" >&2
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
trap 'rm -f "$log" ${placed:+"$policy"}' EXIT
# The routers' packages start a service where they are installed; the tests run them in namespaces alone.
if [ ! -e $policy ]; then
	placed=1
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get install -y -q "${need[@]}" || { apt-get update -q && apt-get install -y -q "${need[@]}"; }; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	exit 1
fi
if command -v systemctl >/dev/null 2>&1; then
	for unit in bird2:bird frr:frr docker.io:docker; do
		case " ${need[*]} " in *" ${unit%:*} "*) systemctl --quiet disable "${unit#*:}" >/dev/null 2>&1 || true ;; esac
	done
fi
