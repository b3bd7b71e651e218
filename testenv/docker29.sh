#!/usr/bin/env bash
# Builds Docker 29's daemon, which is no package of Debian's, into the file named, and beside it its proxy and a runc that knows all
# namespaces which it asks for (Debian's does not know those of clocks), where they are missing. Their modules are those of modules
# thrown away afterwards: none of them is netd's.
set -euo pipefail

out=$(realpath -m "$1")
dir=$(dirname "$out")
[ -x "$out" ] && [ -x "$dir/docker-proxy" ] && [ -x "$dir/runc" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() { # name, CGO_ENABLED, package, version
	mkdir "$work/$1"
	cd "$work/$1"
	printf 'module %s\n\ngo 1.26\n' "$1" >go.mod
	go get "$3@$4"
	CGO_ENABLED=$2 go build -trimpath -o "$dir/$1" "$3"
}
build dockerd 0 github.com/moby/moby/v2/cmd/dockerd v2.0.0-beta.24
build docker-proxy 0 github.com/moby/moby/v2/cmd/docker-proxy v2.0.0-beta.24
build runc 1 github.com/opencontainers/runc v1.2.8
