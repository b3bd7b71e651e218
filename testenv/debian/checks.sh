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
eventually() { # what, command…: the command succeeds within two minutes
	local what=$1 until=$((SECONDS + 120))
	shift
	while ! "$@" >/dev/null 2>&1 && [ $SECONDS -lt $until ]; do
		sleep 0.2
	done
	check "$what" "$@"
	[ "$failed" = 0 ] || { journalctl -b --no-pager -u netd -u netd-speaker | tail -n 40 | sed 's/^/      /'; finish; }
}
absent() { ! "$@" >/dev/null 2>&1; }
empty() { local out; out=$("$@" 2>/dev/null); echo "$out"; [ -z "$out" ]; }
finish() {
	say "guest: exit $failed"
	systemctl poweroff
	exit
}
