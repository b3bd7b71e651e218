#!/usr/bin/env bash
# Makes a Debian guest's disk, kernel and initrd in the folder given: systemd, systemd-networkd, a few packages that are
# not installed yet, and a unit that runs whatever script the second disk brings. Nothing is installed on this machine.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
dir=$(realpath -m "$1")
want=$(cat "$here/image.sh" "$here/guest.service" | sha256sum | cut -c1-16)
[ "$(cat "$dir/made" 2>/dev/null)" = "$want" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$dir"
rm -f "$dir/made"
# What is installed in the guest comes from a repository in it, since it has no network.
index='cd /opt/debs
rm -rf partial lock
for deb in *.deb; do
	dpkg-deb -R "$deb" tree && dpkg-deb -Znone -b tree "$deb" >&2 && rm -r tree # the guest is slow to decompress
	dpkg-deb -f "$deb"
	printf "Filename: ./%s\nSize: %s\nSHA256: %s\n\n" "$deb" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -c1-64)"
done >Packages
echo "deb [trusted=yes] file:/opt/debs ./" >/etc/apt/sources.list
# What doctor prints is typed as it stands, without -y, and nobody is there to answer.
echo "APT::Get::Assume-Yes \"true\";" >/etc/apt/apt.conf.d/assume-yes'
echo "Making a Debian guest (a minute)" >&2
if ! mmdebstrap --variant=minbase --mode=root \
	--include=systemd,systemd-sysv,dbus,udev,kmod,procps,iproute2,nftables,iputils-ping,man-db,rpm,linux-image-cloud-amd64 \
	--dpkgopt='path-include=/usr/share/man/*' \
	--customize-hook='mkdir "$1/opt/debs" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -y -q --download-only --reinstall -o Dir::Cache::archives="$1/opt/debs" docker.io busybox-static iproute2 nftables systemd-timesyncd iptables bash-completion zsh fish' \
	--customize-hook="chroot \"\$1\" sh -ec '$index'" \
	--customize-hook="install -m 644 '$here/guest.service' \"\$1/etc/systemd/system/guest.service\"" \
	--customize-hook='echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"; rm -f "$1/var/lib/man-db/auto-update"' \
	--customize-hook='chroot "$1" systemctl -q enable guest.service systemd-networkd.service' \
	--customize-hook='chroot "$1" systemctl -q mask serial-getty@ttyS0.service' \
	--customize-hook='echo guest >"$1/etc/hostname"; passwd -R "$1" -d root >/dev/null' \
	bookworm "$work/root" >"$work/log" 2>&1; then
	tail -n 20 "$work/log" >&2
	exit 1
fi
cp "$work"/root/boot/vmlinuz-* "$dir/vmlinuz"
cp "$work"/root/boot/initrd.img-* "$dir/initrd"
rm -f "$dir/root.ext4"
truncate -s 3G "$dir/root.ext4"
mkfs.ext4 -q -d "$work/root" "$dir/root.ext4"
echo "$want" >"$dir/made"
