# shellcheck shell=bash
# Assertions for run.sh, and ways to look at lines, messages and time.

passed=0 failed=0

# uptime in milliseconds, without starting a process
now() {
	local t
	t=${EPOCHREALTIME/[.,]/}
	echo $((t / 1000))
}

section() { printf '\n# [%ss] %s\n' "$SECONDS" "$*"; }
ok() {
	passed=$((passed + 1))
	printf 'ok %d - %s\n' $((passed + failed)) "$*"
}
not_ok() {
	failed=$((failed + 1))
	printf 'not ok %d - %s\n' $((passed + failed)) "$*"
}

# check WHAT COMMAND...: passes where the command succeeds, or else shows what it printed
check() {
	local what=$1 printed
	shift
	if printed=$("$@" 2>&1); then
		ok "$what"
	else
		not_ok "$what"
		printf '%s\n' "$printed" "    ($*)" | sed 's/^/    /'
	fi
}

# same WHAT WANT GOT
same() {
	if [ "$2" = "$3" ]; then ok "$1"; else
		not_ok "$1"
		printf '    want %s\n    got  %s\n' "$2" "$3"
	fi
}

# within SECONDS COMMAND...: again and again until it succeeds
within() {
	local deadline=$((SECONDS + $1)) printed
	shift
	until printed=$("$@" 2>&1); do
		if [ $SECONDS -ge "$deadline" ]; then
			printf '%s\n' "$printed"
			return 1
		fi
		sleep 0.1
	done
}

# message FILTER: has the watcher received a message for which the jq filter is true?
message() { jq -Rne "any(inputs | fromjson? // {}; $1)" /run/watch.log; }

# messages FILTER: all of them, one a line
messages() { jq -Rnc "inputs | fromjson? // {} | select($1)" /run/watch.log; }

# level N: the level that line has now, from the kernel; is_level N LEVEL
level() { cat "$LINES/sim_gpio$1/value"; }
is_level() { [ "$(level "$1")" = "$2" ]; }

# follow N FILE: writes each change of a line's level with its time, until killed.
# It looks every few milliseconds and starts no process for that.
follow() {
	local last='' value nap
	exec {nap}<> <(:)
	while :; do
		read -r value <"$LINES/sim_gpio$1/value"
		[ "$value" = "$last" ] || printf '%s %s\n' "$(now)" "$value" >>"$2"
		last=$value
		read -rt 0.005 -u "$nap"
	done
}

# summary: the closing line; fails where something has failed
summary() {
	printf '\n%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" = 0 ]
}
