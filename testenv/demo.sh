#!/usr/bin/env bash
# The main job in a minute: two hosts on this machine, as network namespaces; vxlan first, then bgp under traffic.
set -euo pipefail
netd=$(realpath "$1")
work=$(mktemp -d)
file=$work/netd.hcl
chmod 755 "$work"
finish() {
	"$netd" lab down 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT
if [ "$(id -u)" -ne 0 ]; then
	echo "The demo makes network namespaces: run it as root (sudo make demo)." >&2
	exit 77
fi
say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() {
	printf '$ %s\n' "$*"
	"$@"
}
lab() { "$netd" lab "$@"; }

cat >"$file" <<'HCL'
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
show cat "$file"
say "What netd would make of an empty host (the links and routes of it; netd plan shows all)"
echo '$ netd plan --node baihl-master --offline'
"$netd" plan -c "$file" --node baihl-master --offline | grep -E '^baihl|^  . (link|addr|neigh|fdb|route)|^Plan'
say "Both hosts, with netd in each"
echo '$ netd lab up netd.hcl'
lab up "$file"
echo '$ netd status                             (on baihl-master)'
lab exec baihl-master "$netd" status -c "$file"
say "From container to container"
echo '$ ping 10.10.194.134                      (in nginx-master)'
lab exec nginx-master ping -c 2 -i 0.2 10.10.194.134
echo '$ ip route                                (in nginx-master)'
lab exec nginx-master ip route
echo '$ ip route                                (on baihl-master)'
lab exec baihl-master ip route
say "Someone deletes the route; the daemon puts it back"
lab exec baihl-master ip route del 10.10.194.128/26
for _ in $(seq 100); do
	lab exec baihl-master "$netd" status -c "$file" | grep -q 'Last repairs' && break
	sleep 0.02
done
lab exec baihl-master "$netd" status -c "$file" | sed -n '/Last repairs/,$p'
say "The mode becomes bgp, by the file alone, while a ping runs (20 a second, 6 seconds)"
lab exec nginx-master ping -q -c 120 -i 0.05 10.10.194.134 >"$work/ping" &
sleep 1
sed -i 's/"vxlan"/"bgp"/' "$file"
wait $! || true
grep transmitted "$work/ping" || true
echo "(Without the step that receives both ways, which netd does not know yet, some packets are lost in between.)"
echo '$ netd status                             (on baihl-master)'
lab exec baihl-master "$netd" status -c "$file" | sed '/Last repairs/,$d'
echo '$ ip route                                (on baihl-master: bare, learned over BGP, no tunnel)'
lab exec baihl-master ip route
echo '$ netd lab test'
lab test
say "Down again: nothing stays"
lab down
