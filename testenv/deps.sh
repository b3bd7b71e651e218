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
want socat socat
want bird bird2
want sysctl procps
want qemu-system-x86_64 qemu-system-x86

[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "Install these first (Debian's names): ${need[*]}" >&2
	exit 1
fi
echo "Installing with apt: ${need[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get install -y -q "${need[@]}" || { apt-get update -q && apt-get install -y -q "${need[@]}"; }; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	exit 1
fi
