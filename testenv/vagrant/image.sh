#!/usr/bin/env bash
# Makes two things in the folder given: `root`, a Debian with Vagrant and libvirt, and `box.tar`, a box of Debian with Docker, with
# its kernel and initrd beside it. Nothing is installed on this machine.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
dir=$(realpath -m "$1")
want=$(sha256sum <"$here/image.sh" | cut -c1-16)
[ "$(cat "$dir/made" 2>/dev/null)" = "$want" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
rm -rf "$dir"
mkdir -p "$dir"
debian() {
	if ! mmdebstrap --variant=minbase --mode=root --aptopt='Acquire::Retries "3"' "$@" >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		exit 1
	fi
}

echo "Making a Debian with Vagrant and libvirt (a minute)" >&2
debian --include=vagrant,vagrant-libvirt,libvirt-daemon-system,libvirt-clients,qemu-system-x86,qemu-utils,dnsmasq-base,iptables,rsync,openssh-client,iproute2 \
	bookworm "$dir/root"
# No systemd, no D-Bus and no cgroups in there; qemu is root, as everything is.
cat >>"$dir/root/etc/libvirt/qemu.conf" <<'CONF'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
CONF
cat >>"$dir/root/etc/libvirt/libvirtd.conf" <<'CONF'
auth_unix_ro = "none"
auth_unix_rw = "none"
CONF
# What this machine has of its own goes where Vagrant looks for it, so that the Vagrantfile is the one that everybody uses: no KVM,
# and a box without a boot loader.
mkdir -p "$dir/root/root/.vagrant.d" "$dir/root/netd" "$dir/root/box"
cat >"$dir/root/root/.vagrant.d/Vagrantfile" <<'RUBY'
Vagrant.configure("2") do |config|
  config.vm.boot_timeout = 900
  config.vm.provider :libvirt do |libvirt|
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "custom"
    libvirt.cpu_model = "qemu64"
    libvirt.cpu_feature name: "rdrand", policy: "require"
    libvirt.graphics_type = "none"
    libvirt.kernel = "/box/vmlinuz"
    libvirt.initrd = "/box/initrd"
    libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 quiet apparmor=0 net.ifnames=0"
  end
end
RUBY

echo "Making a box of Debian with Docker (a minute)" >&2
cat >"$work/interfaces" <<'CONF'
auto lo
iface lo inet loopback
auto eth0
iface eth0 inet dhcp
CONF
debian --include=systemd,systemd-sysv,dbus,udev,kmod,procps,iproute2,nftables,iputils-ping,ifupdown,isc-dhcp-client,openssh-server,sudo,rsync,docker.io,iptables,busybox-static,curl,tcpdump,ca-certificates,linux-image-cloud-amd64 \
	--customize-hook="install -m 644 '$work/interfaces' \"\$1/etc/network/interfaces\"" \
	--customize-hook='echo box >"$1/etc/hostname"; printf "127.0.0.1 localhost\n127.0.1.1 box\n" >"$1/etc/hosts"' \
	--customize-hook='chroot "$1" useradd -m -s /bin/bash vagrant' \
	--customize-hook='echo "vagrant ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/vagrant"' \
	--customize-hook='chroot "$1" install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh' \
	--customize-hook="install -m 600 '$dir'/root/usr/share/rubygems-integration/all/gems/vagrant-2*/keys/vagrant.pub \"\$1/home/vagrant/.ssh/authorized_keys\"" \
	--customize-hook='chroot "$1" chown vagrant: /home/vagrant/.ssh/authorized_keys' \
	--customize-hook='echo "UseDNS no" >"$1/etc/ssh/sshd_config.d/vagrant.conf"' \
	bookworm "$work/box"
cp "$work"/box/boot/vmlinuz-* "$dir/vmlinuz"
cp "$work"/box/boot/initrd.img-* "$dir/initrd"
truncate -s 4G "$work/root.ext4"
mkfs.ext4 -q -d "$work/box" "$work/root.ext4"
qemu-img convert -f raw -O qcow2 "$work/root.ext4" "$work/box.img"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 4}' >"$work/metadata.json"
tar -C "$work" -cf "$dir/box.tar" metadata.json box.img
echo "$want" >"$dir/made"
