#!/usr/bin/env bash
# Runs a command in the Debian that image.sh made, as root, in the checkout under /netd, with libvirtd beside it: `run.sh IMAGE CMD…`.
# Network, processes and mounts are namespaces of their own, so that no bridge of libvirt's shows on this machine; with the first
# process of them, at the command's end or this script's, everything in them is gone: machines, bridges, what was written.
set -euo pipefail
if [ "$(id -u)" -ne 0 ]; then
	echo "libvirtd runs in network namespaces here: run this as root." >&2
	exit 77
fi
image=$(realpath "$1")
shift
tree=$(realpath "$(dirname "$0")/../..")
if [ -z "${NETD_VAGRANT_INSIDE:-}" ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	export NETD_VAGRANT_INSIDE=$work
	# In the background, since bash keeps a signal back while it waits for a command in front; --kill-child takes all of them along.
	unshare --mount --net --pid --ipc --uts --fork --kill-child=KILL "$0" "$image" "$@" </dev/null &
	inside=$!
	# unshare takes no notice of milder signals.
	trap 'kill -KILL "$inside" 2>/dev/null || true; wait "$inside" 2>/dev/null || true; rm -rf "$work"' EXIT
	status=0
	wait "$inside" || status=$?
	exit "$status"
fi

work=$NETD_VAGRANT_INSIDE root=$NETD_VAGRANT_INSIDE/root
mount --make-rprivate /
mkdir -p "$work/upper" "$work/over" "$root"
mount -t overlay overlay -o "lowerdir=$image/root,upperdir=$work/upper,workdir=$work/over" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount --bind "$image" "$root/box"
mount --bind "$tree" "$root/netd"
ip link set lo up
hostname vagrant
within() { env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TERM=dumb NETD_VAGRANT_INSIDE=yes VAGRANT_DOTFILE_PATH=/root/dot VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_CHECKPOINT_DISABLE=1 chroot "$root" "$@"; }
within libvirtd >"$work/libvirtd.log" 2>&1 &
libvirtd=$!
until within virsh -q list >"$work/virsh.log" 2>&1; do
	if ! kill -0 "$libvirtd" 2>/dev/null || [ "$SECONDS" -gt 60 ]; then
		echo "No libvirt runs here, and so no machine of Vagrant's. libvirtd says:" >&2
		tail -n 20 "$work/libvirtd.log" "$work/virsh.log" >&2
		exit 1
	fi
	sleep 0.2
done
within sh -c 'cd /netd && exec "$@"' sh "$@"
