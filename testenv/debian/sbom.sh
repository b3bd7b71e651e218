#!/usr/bin/env bash
# What the packages in a folder say of themselves: the folder's sums are theirs, and each one's SBOM is of the program it brings, with
# the modules that `go version -m` finds in its programs, their versions and sums, and no other. `sbom.sh FOLDER`.
set -euo pipefail
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
same() { # what, two files
	if diff "$2" "$3" >"$work/differ"; then
		echo "ok    $1"
	else
		echo "FAIL  $1 (<: found, >: said)"
		sed 's/^/      /' "$work/differ"
		exit 1
	fi
}

sha256sum --quiet --strict -c SHA256SUMS
echo "ok    the checksums are right"
ls -- *.deb *.rpm | sort >"$work/found"
sed 's/^[0-9a-f]*  //' SHA256SUMS | sort >"$work/said"
same "each package has one" "$work/found" "$work/said"

while read -r package; do
	root=$work/$package
	mkdir "$root"
	case $package in
	*.deb) dpkg-deb -x "$package" "$root" ;;
	*.rpm) rpm2archive -n - <"$package" | tar x -C "$root" ;;
	esac
	sbom=$root/usr/share/doc/netd/sbom.cdx.json
	go version -m "$root" >"$work/modules"
	find "$root" -type f -perm -u=x | sort >"$work/found"
	sed -n 's/^\(\/.*\): go.*/\1/p' "$work/modules" | sort >"$work/said"
	same "$package: its $(wc -l <"$work/found") programs are Go's" "$work/found" "$work/said"
	sha256sum <"$root/usr/sbin/netd" | cut -d' ' -f1 >"$work/found"
	jq -r '.metadata.properties[] | select(.name == "cdx:gomod:binary:hash:SHA-256").value' "$sbom" >"$work/said"
	same "$package: its SBOM is of its netd" "$work/found" "$work/said"
	awk -F'\t' '/^\// { sub(/.*: /, ""); print "std " $0 }  $2 == "dep" { print $3, $4, $5 }' "$work/modules" |
		while read -r name version sum; do # go's sums are base64, and an SBOM's hexadecimal
			echo "$name $version $(base64 -d <<<"${sum#h1:}" | od -An -v -tx1 | tr -d ' \n')"
		done | sort -u >"$work/found"
	jq -r '.components[] | "\(.name) \(.version) \([.hashes[]? | select(.alg == "SHA-256").content] | join(","))"' "$sbom" | sort >"$work/said"
	same "$package: which has their $(wc -l <"$work/found") modules" "$work/found" "$work/said"
done <<<"$(ls -- *.deb *.rpm)"
