#!/usr/bin/env bash
# Puts the cloud kernel of Debian and its modules into the folder given, for guests: this host's own Debian, or the suite
# named after the folder. Nothing is installed, and apt's own lists are only read.
set -euo pipefail
dir=$(realpath -m "$1")
suite=${2:-}
[ -e "$dir/vmlinuz" ] && [ -d "$dir/modules" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
apt=()
if [ -n "$suite" ]; then
	mkdir -p lists/partial cache/archives/partial
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Identifier: Packages' | awk '$1 == "Debian" && $2 == "main" && !/security/ { print $3; exit }')
	[ -n "$mirror" ] || { echo "no mirror of Debian among apt's sources, to fetch $suite's kernel from" >&2; exit 1; }
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >sources.list
	apt=(-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache")
fi
find_package() { apt-cache "${apt[@]}" depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }' || true; }
fetch_lists() { apt-get "${apt[@]}" update -q >log 2>&1; }
package=$(find_package)
if [ -z "$package" ]; then
	fetch_lists || { tail -n 5 log >&2; exit 1; }
	package=$(find_package)
fi
[ -n "$package" ] || { echo "no linux-image-cloud-amd64 among apt's packages: the guest needs Debian's cloud kernel" >&2; exit 1; }
echo "Fetching $package for the guest" >&2
fetch() { apt-get "${apt[@]}" download -q "$package" >log 2>&1; }
fetch || { fetch_lists && fetch; } || { tail -n 5 log >&2; exit 1; }
dpkg -x ./*.deb root
mkdir -p "$dir"
rm -rf "$dir/modules"
cp -r root/lib/modules/* "$dir/modules"
cp root/boot/vmlinuz-* "$dir/vmlinuz"
