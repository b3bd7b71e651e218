#!/usr/bin/env bash
# Puts Debian's cloud kernel and its modules into the folder given, for guests. Nothing is installed.
set -euo pipefail
dir=$(realpath -m "$1")
[ -e "$dir/vmlinuz" ] && [ -d "$dir/modules" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
find_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }'; }
package=$(find_package)
if [ -z "$package" ]; then
	apt-get update -q >log 2>&1 || { tail -n 5 log >&2; exit 1; }
	package=$(find_package)
fi
[ -n "$package" ] || { echo "no linux-image-cloud-amd64 among apt's packages: the guest needs Debian's cloud kernel" >&2; exit 1; }
echo "Fetching $package for the guest" >&2
apt-get download -q "$package" >log 2>&1 || { apt-get update -q >log 2>&1 && apt-get download -q "$package" >log 2>&1; } || { tail -n 5 log >&2; exit 1; }
dpkg -x ./*.deb root
mkdir -p "$dir"
rm -rf "$dir/modules"
cp -r root/lib/modules/* "$dir/modules"
cp root/boot/vmlinuz-* "$dir/vmlinuz"
