#!/usr/bin/env bash
# Builds the packages twice, and of another version, and takes them through their scripts in a Debian guest.
set -euo pipefail
cd "$(dirname "$0")/../.."
testenv/debian/image.sh bin/debian
folder=$(mktemp -d) elsewhere=$(mktemp -d)
trap 'rm -rf "$folder" "$elsewhere"' EXIT
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$elsewhere"
echo "gitdir: $(git rev-parse --absolute-git-dir)" >"$elsewhere/.git" # the binary has its commit
export GIT_OPTIONAL_LOCKS=0
for kind in deb rpm; do
	NETD_VERSION=0.0.2~new DIST=$folder/new packaging/build.sh $kind
	# From a tree in another place, by somebody with other settings.
	(cd "$elsewhere" && umask 077 && TZ=Pacific/Auckland LANG=de_DE.UTF-8 NETD_VERSION=0.0.2~new DIST=$elsewhere/new packaging/build.sh $kind)
done
diff -r "$folder/new" "$elsewhere/new"
echo "ok    two builds are equal byte by byte"
testenv/debian/sbom.sh "$folder/new"
# The old version has another file of those that the host may edit.
echo '# An older one.' >>"$elsewhere/packaging/iproute2/netd.conf"
for kind in deb rpm; do
	(cd "$elsewhere" && NETD_VERSION=0.0.1~old DIST=$folder/old packaging/build.sh $kind)
done
cp testenv/debian/checks.sh testenv/debian/wire.sh "$folder"
sed 's/"vxlan"/"MODE"/;' docs/walkthrough.hcl | sed 's#/run/netns/nginx-master#/run/netns/c1#; s#/run/netns/nginx-node#/run/netns/c2#' >"$folder/netd.hcl"
# What the page has one type, a line each.
awk '/^```/ { inside = $0 == "```sh"; next } inside { sub(/ +#.*/, ""); print }' docs/how-to/install.md >"$folder/page"
for script in ${*:-packages docker doctor rpm}; do
	cp "testenv/debian/$script.sh" "$folder/test.sh"
	testenv/debian/run.sh bin/debian "$folder"
done
