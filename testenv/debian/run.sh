#!/usr/bin/env bash
# Boots a Debian guest with the files of a folder on its second disk and runs the folder's test.sh in it, again after each
# boot that the script asks for, until it prints its verdict. `run.sh IMAGE FOLDER`; exits as the script did, 125 where the
# guest itself failed.
set -euo pipefail
image=$(realpath "$1") folder=$2 limit=${LIMIT:-1800}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
qemu-img create -q -f qcow2 -F raw -b "$image/root.ext4" "$work/root.qcow2"
truncate -s 256M "$work/test.ext4"
mkfs.ext4 -q -d "$folder" "$work/test.ext4"
timeout "$limit" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=256 -cpu qemu64,+rdrand -smp 2 -m 1024 -nographic -nic none \
	-kernel "$image/vmlinuz" -initrd "$image/initrd" -append 'root=/dev/vda rw console=ttyS0 quiet apparmor=0 systemd.show_status=false' \
	-drive "file=$work/root.qcow2,if=virtio,format=qcow2" -drive "file=$work/test.ext4,if=virtio,format=raw,readonly=on" \
	</dev/null 2>&1 | stdbuf -oL sed -u 's/\r//g; s/\x1b[c\[][?0-9;]*[a-zA-Z]*//g' | tee "$work/out" | grep --line-buffered -E '^(#|ok |FAIL|guest:|      |[0-9]+ packets)' || true
verdict=$(sed -n 's/^guest: exit \([0-9]*\)$/\1/p' "$work/out" | tail -n 1)
if [ -z "$verdict" ]; then
	echo "the guest ended without a verdict (a limit of $limit s, a panic, or no boot); its last lines:" >&2
	tail -n 20 "$work/out" >&2
	exit 125
fi
exit "$verdict"
