# What the scripts in the guest check with.
failed=0
say() { printf '%s\n' "$*"; }
check() { # what, command…: the command succeeds
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		say "ok    $what"
	else
		say "FAIL  $what: $*"
		say "$out" | tail -n 30 | sed 's/^/      /'
		failed=1
	fi
}
eventually() { # what, command…: the command succeeds within 30 s
	local what=$1 i
	shift
	for ((i = 0; i < 150; i++)); do
		"$@" >/dev/null 2>&1 && break
		sleep 0.2
	done
	check "$what" "$@"
	[ "$failed" = 0 ] || { journalctl -b --no-pager -u netd -u netd-speaker | tail -n 40; finish; }
}
absent() { ! "$@" >/dev/null 2>&1; }
empty() { local out; out=$("$@" 2>/dev/null); echo "$out"; [ -z "$out" ]; }
finish() {
	say "guest: exit $failed"
	systemctl poweroff
	exit
}
