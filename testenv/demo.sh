#!/usr/bin/env bash
# The main job in a minute: two hosts on this machine, as network namespaces; vxlan first, then bgp under traffic.
set -euo pipefail
program=$(realpath "$1")
if [ "$(id -u)" -ne 0 ]; then
	echo "The demo makes network namespaces: run it as root (sudo make demo)." >&2
	exit 77
fi
netd() { "$program" "$@"; }
if [ -e /run/netd-lab ]; then
	echo "A lab is up already: netd lab down takes it down." >&2
	exit 1
fi
work=$(mktemp -d)
cd "$work"
finish() {
	netd lab down 2>/dev/null || true
	cd /
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
bold=$'\033[1m' plain=$'\033[0m'
if [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ]; then bold='' plain=''; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# What is shown is what is run; behind a | is how much of it is shown.
show() {
	printf '$ %s\n' "$1"
	eval "$1 ${2:-}"
}

cat >netd.hcl <<'HCL'
network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "vxlan"
}

node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = "10.10.40.129"
  netns   = "/run/netns/nginx-master"
}

workload "nginx-node" {
  node    = "baihl-node"
  address = "10.10.194.134"
  netns   = "/run/netns/nginx-node"
}
HCL

say "One file, the same on every host"
show 'cat netd.hcl'
say "What netd would make of an empty host: the links and routes of it (netd plan shows all)"
show 'netd plan -c netd.hcl --node baihl-master --offline' "| grep -E '^baihl|^  . (link|addr|neigh|fdb|route)|^Plan'"
say "Both hosts, with netd in each"
show 'netd lab up netd.hcl'
show 'netd lab exec baihl-master netd status'
show 'netd lab exec baihl-master netd plan'
say "From container to container"
show 'netd lab exec nginx-master ping -c 2 -i 0.2 10.10.194.134'
show 'netd lab exec nginx-master ip route'
show 'netd lab exec baihl-master ip route'
say "Someone deletes the route; the daemon puts it back"
show 'netd lab exec baihl-master ip route del 10.10.194.128/26'
for _ in $(seq 100); do
	netd lab exec baihl-master netd status | grep -q 'Last repairs' && break
	sleep 0.02
done
show 'netd lab exec baihl-master netd status' "| sed -n '/Last repairs/,\$p'"
say "The mode becomes bgp, by the file alone, while a ping runs (20 a second, 12 seconds)"
# Each step is on both hosts, and sessions are up, before the next.
settled() {
	for node in baihl-master baihl-node; do
		netd lab exec "$node" netd reload >/dev/null || true
	done
	for node in baihl-master baihl-node; do
		for _ in $(seq 150); do
			netd lab exec "$node" netd status >/dev/null && netd lab exec "$node" netd plan --detailed-exitcode >/dev/null && continue 2
			sleep 0.1
		done
		echo "$node is not in sync:" >&2
		netd lab exec "$node" netd status >&2
	done
}
netd lab exec nginx-master ping -q -c 240 -i 0.05 10.10.194.134 >ping &
sleep 1
echo "Everybody listens both ways:"
show "sed -i 's/  mode  = \"vxlan\"/&\\n  receive = [\"bgp\"]/' netd.hcl"
settled
echo "Everybody sends the new way:"
show "sed -i 's/\"vxlan\"/\"BGP\"/; s/\"bgp\"/\"vxlan\"/; s/BGP/bgp/' netd.hcl"
show 'grep -E "mode|receive" netd.hcl'
settled
echo "The old way goes:"
show "sed -i '/receive/d' netd.hcl"
settled
wait $! || true
grep transmitted ping || true
show 'netd lab exec baihl-master netd status' "| sed '/Last repairs/,\$d'"
say "Bare, learned over BGP, no tunnel"
show 'netd lab exec baihl-master ip route'
show 'netd lab test'
say "Down again: nothing stays"
show 'netd lab down'
