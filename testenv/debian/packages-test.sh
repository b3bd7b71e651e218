#!/usr/bin/env bash
# Builds the package twice, with two versions, and takes it through packages.sh in a Debian guest.
set -euo pipefail
cd "$(dirname "$0")/../.."
testenv/debian/image.sh bin/debian
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
NETD_VERSION=0.0.1~old DIST=$folder/old packaging/build.sh deb
NETD_VERSION=0.0.2~new DIST=$folder/new packaging/build.sh deb
cp testenv/debian/packages.sh "$folder/test.sh"
sed 's/"vxlan"/"MODE"/;' docs/walkthrough.hcl | sed 's#/run/netns/nginx-master#/run/netns/c1#; s#/run/netns/nginx-node#/run/netns/c2#' >"$folder/netd.hcl"
testenv/debian/run.sh bin/debian "$folder"
