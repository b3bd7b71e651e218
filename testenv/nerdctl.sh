#!/usr/bin/env bash
# Builds nerdctl, which is no package of Debian's, into the file named, where it is missing. Its modules are those of a module
# thrown away afterwards: none of them is netd's.
set -euo pipefail

[ -x "$1" ] && exit 0
out=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf 'module nerdctl\n\ngo 1.26\n' >go.mod
go get github.com/containerd/nerdctl/v2/cmd/nerdctl@v2.0.4
CGO_ENABLED=0 go build -trimpath -o "$out" github.com/containerd/nerdctl/v2/cmd/nerdctl
