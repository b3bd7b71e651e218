#!/usr/bin/env bash
# netd beside the field's own tools on the same work, in one run; a ratio below 1 means that netd is faster.
set -euo pipefail
netd=$(realpath "$1")
nodes=${NODES:-10000}
if [ "$(id -u)" -ne 0 ]; then
	echo "The benchmarks make network namespaces: run them as root." >&2
	exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
	printf 'network "lab" {\n  pools = ["10.0.0.0/8"]\n  mode  = "vxlan"\n}\n'
	for ((i = 0; i < nodes; i++)); do
		a=$((i + 10))
		printf 'node "web-%05d" {\n  address = "172.16.%d.%d/16"\n  blocks  = ["10.%d.%d.%d/26"]\n}\n' "$i" $((a / 256)) $((a % 256)) $((i / 1024)) $((i / 4 % 256)) $((i % 4 * 64))
	done
} >"$work/netd.hcl"
for ((i = 1; i < nodes; i++)); do
	a=$((i + 10)) gw=10.$((i / 1024)).$((i / 4 % 256)).$((i % 4 * 64))
	printf -v mac '02:00:00:%02x:%02x:%02x' $((i >> 16)) $((i >> 8 & 255)) $((i & 255))
	printf 'neigh add %s lladdr %s dev vx nud permanent\nroute add %s/26 via %s dev vx onlink\n' "$gw" "$mac" "$gw" "$gw" >>"$work/ip"
	printf 'fdb append %s dev vx dst 172.16.%d.%d\n' "$mac" $((a / 256)) $((a % 256)) >>"$work/bridge"
done
cat >"$work/host" <<'IN'
ip link set lo up
ip link add ens33 type veth peer name wire
ip link set ens33 up
ip link set wire up
ip addr add 172.16.0.10/16 dev ens33
IN
cat >"$work/run" <<IN
set -e
. $work/host
now() { date +%s%N; }
if [ \$1 = batch ]; then
	ip link add vx type vxlan id 4096 dstport 4789 local 172.16.0.10 dev ens33 nolearning
	ip addr add 10.0.0.0/32 dev vx
	ip link set vx up
	a=\$(now); ip -batch $work/ip; bridge -batch $work/bridge; b=\$(now)
	echo \$((b - a))
	exit
fi
flags="--state-dir $work/state --run-dir $work/run.d -c $work/netd.hcl"
rm -rf $work/state
a=\$(now); $netd apply -y \$flags >/dev/null; b=\$(now); $netd plan \$flags >/dev/null; c=\$(now)
echo \$((b - a)) \$((c - b))
IN
printf '%d nodes over VXLAN: a route, a neighbour and an FDB entry each\n' "$nodes"
printf '%8s %16s %12s %7s %14s\n' run 'ip+bridge batch' 'netd apply' ratio 'netd plan'
for run in 1 2 3; do
	batch=$(unshare -n bash "$work/run" batch)
	read -r apply plan < <(unshare -n bash "$work/run" netd)
	awk -v r="$run" -v b="$batch" -v a="$apply" -v p="$plan" 'BEGIN { printf "%8d %14.2f s %10.2f s %7.2f %12.2f s\n", r, b/1e9, a/1e9, a/b, p/1e9 }'
done
