#!/usr/bin/env bash
# Builds Docker 29's daemon, which is no package of Debian's, into the file named, where it is missing. Its modules are those of
# a module thrown away afterwards: none of them is netd's.
set -euo pipefail

[ -x "$1" ] && exit 0
out=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf 'module docker29\n\ngo 1.26\n' >go.mod
go get github.com/moby/moby/v2/cmd/dockerd@v2.0.0-beta.24
CGO_ENABLED=0 go build -trimpath -o "$out" github.com/moby/moby/v2/cmd/dockerd
