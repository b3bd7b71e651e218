#!/usr/bin/env bash
# Makes a folder with Debian's firewalld, ufw and NetworkManager, and what they need, to run in by chroot. Nothing is installed on this machine.
set -euo pipefail
dir=$(realpath -m "$1")
want=$(sha256sum <"$0" | cut -c1-16)
[ "$(cat "$dir/made" 2>/dev/null)" = "$want" ] && exit 0
rm -rf "$dir"
mkdir -p "$dir"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Making a folder with firewalld, ufw and NetworkManager (half a minute)" >&2
# Extracted, not set up: no maintainer's script runs.
if ! mmdebstrap --variant=extract --mode=root --format=directory \
	--include=base-files,base-passwd,dash,coreutils,libc-bin,sed,grep,mawk,procps,kmod,iproute2,nftables,iptables,dbus,firewalld,ufw,network-manager \
	bookworm "$dir/root" >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	exit 1
fi
root=$dir/root
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
echo 'messagebus:x:100:100::/:/bin/false' >>"$root/etc/passwd"
echo 'messagebus:x:100:' >>"$root/etc/group"
for x in iptables ip6tables; do
	for y in '' -save -restore; do ln -sf xtables-nft-multi "$root/usr/sbin/$x$y"; done
done
rm -rf "$root/var/run"
ln -s /run "$root/var/run"
mkdir -p "$root/var/lib/NetworkManager"
[ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"
cp "$root"/usr/share/ufw/{ufw.conf,before.rules,before6.rules,after.rules,after6.rules,user.rules,user6.rules,before.init,after.init} "$root/etc/ufw/"
chmod -R go-w "$root/etc"
echo "$want" >"$dir/made"
