#!/usr/bin/env bash
# Packages from one staged tree: `build.sh deb` and `build.sh rpm`, into dist/. What goes in and its order, times and owners
# follow from the commit alone, so that two builds are equal byte by byte.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} LC_ALL=C TZ=UTC
described=${NETD_VERSION:-$(git describe --tags --match 'v*' 2>/dev/null || echo "v0.0.0-$(git rev-list --count HEAD)-g$(git rev-parse --short=7 HEAD)")}
version=$(sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' <<<"$described")
arch=$(dpkg --print-architecture 2>/dev/null || uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
put() { install -D -m "$1" "$2" "$root$3"; }

make --no-print-directory build VERSION="$version" >&2
for program in bin/*; do
	case $program in bin/netd) put 755 "$program" /usr/sbin/netd ;; bin/netd-cni) put 755 "$program" /usr/libexec/netd/netd-cni ;; esac
done
for unit in packaging/systemd/*; do put 644 "$unit" "/usr/lib/systemd/system/${unit##*/}"; done
put 644 packaging/modules-load.d/netd.conf /usr/lib/modules-load.d/netd.conf
put 644 packaging/sysctl.d/zz-netd.conf /usr/lib/sysctl.d/zz-netd.conf
put 644 packaging/sysusers.d/netd.conf /usr/lib/sysusers.d/netd.conf
put 644 packaging/networkd/00-netd.network /usr/lib/systemd/network/00-netd.network
put 644 packaging/networkd/zz-netd.conf /usr/lib/systemd/networkd.conf.d/zz-netd.conf
put 644 packaging/NetworkManager/zz-netd.conf /etc/NetworkManager/conf.d/zz-netd.conf
put 644 packaging/iproute2/netd.conf /etc/iproute2/rt_protos.d/netd.conf
put 644 docs/walkthrough.hcl /usr/share/doc/netd/examples/netd.hcl
put 644 config/reference.hcl /usr/share/doc/netd/examples/reference.hcl
put 644 LICENSE /usr/share/doc/netd/copyright
gzip -9nc CHANGELOG.md >"$work/changelog.gz" && put 644 "$work/changelog.gz" /usr/share/doc/netd/changelog.gz
for page in packaging/man/*; do
	gzip -9nc "$page" >"$work/page.gz" && put 644 "$work/page.gz" "/usr/share/man/man${page##*.}/${page##*/}.gz"
done
bin/netd completion bash >"$work/c" && put 644 "$work/c" /usr/share/bash-completion/completions/netd
zsh=vendor-completions # Debian's; everybody else's is zsh's own
[ "$kind" = deb ] || zsh=site-functions
bin/netd completion zsh >"$work/c" && put 644 "$work/c" /usr/share/zsh/$zsh/_netd
bin/netd completion fish >"$work/c" && put 644 "$work/c" /usr/share/fish/vendor_completions.d/netd.fish
# -std: Go's own library is in both programs, and netd-cni is made of nothing else.
go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0 bin -std -json -noserial -version "v$version" bin/netd |
	sed '/"timestamp":/d' >"$work/sbom" && put 644 "$work/sbom" /usr/share/doc/netd/sbom.cdx.json
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

dist=${DIST:-dist}
mkdir -p "$dist"
case $kind in
deb)
	install -d -m 755 "$root/DEBIAN"
	for script in postinst prerm postrm; do install -m 755 "packaging/deb/$script" "$root/DEBIAN/$script"; done
	(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
	cat >"$root/DEBIAN/control" <<-CONTROL
		Package: netd
		Version: $version
		Architecture: $arch
		Maintainer: netd <netd@localhost>
		Section: net
		Priority: optional
		Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
		Recommends: iproute2, nftables
		Description: A network for containers on bare hosts, from one file
		 netd makes the containers of many hosts one network, as one file says that is
		 the same on every host.
	CONTROL
	find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$root" "$dist/netd_${version}_$arch.deb" >&2
	;;
rpm)
	rpmbuild --quiet -bb --define "_topdir $work/rpm" --define "netd_version $version" --define "netd_root $root" \
		--define "_rpmdir $work/out" --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
		--define 'clamp_mtime_to_source_date_epoch 1' --define '_binary_payload w6.xzdio' packaging/netd.spec >&2
	find "$work/out" -name '*.rpm' -exec cp {} "$dist/" \;
	;;
*)
	echo "usage: build.sh deb|rpm" >&2
	exit 64
	;;
esac
shopt -s nullglob
(cd "$dist" && sha256sum netd[_-]*.deb netd[_-]*.rpm >SHA256SUMS)
ls "$dist"
