# shellcheck shell=bash
# Assertions for run.sh, and ways to wait and to look at messages.

# Counts and times go on over a reboot.
passed=0 failed=0
[ ! -e out/counts ] || read -r passed failed SECONDS <out/counts

section() {
	printf '\n# [%ss] %s\n' "$SECONDS" "$*"
	printf '# %s\n' "$*" >/dev/console # for those who watch
}
ok() {
	passed=$((passed + 1))
	printf 'ok %d - %s\n' $((passed + failed)) "$*"
}
not_ok() {
	failed=$((failed + 1))
	printf 'not ok %d - %s\n' $((passed + failed)) "$*" | tee /dev/console || true
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

# A command that is missing fails the run, and so does a part of these scripts. The shell
# calls this in a subshell, which cannot count.
command_not_found_handle() {
	echo "$1" | tee -a out/missing >&2
	return 127
}

# same WHAT WANT GOT
same() {
	if [ "$2" = "$3" ]; then ok "$1"; else
		not_ok "$1"
		printf '    want %s\n    got  %s\n' "$2" "$3"
	fi
}

# same_quietly WHAT WANT GOT: counts only where it fails
same_quietly() { [ "$2" = "$3" ] || same "$@"; }

# at_most LIMIT MILLISECONDS WHAT
at_most() {
	if [ "$2" -le "$1" ]; then ok "$3 after $2 ms, at most $1"; else not_ok "$3 after $2 ms, at most $1"; fi
}

# within SECONDS COMMAND...: again and again until it succeeds
within() {
	local deadline=$((SECONDS + $1)) printed
	shift
	until printed=$("$@" 2>&1); do
		if [ "$SECONDS" -ge "$deadline" ]; then
			printf '%s\n' "$printed"
			return 1
		fi
		sleep 0.1
	done
}

# message FILTER: has the watcher received a message for which the jq filter is true?
# (jq 1.6, of Debian 12, gives false for any(inputs; ...) where select finds one.)
message() { [ -n "$(messages "$1" | head -n 1)" ]; }

# messages FILTER: all of them, one a line
messages() { jq -Rnc "inputs | fromjson? // {} | select($1)" /run/watch.log; }

# keep_counts: before the machine goes down
keep_counts() { echo "$passed $failed $SECONDS" >out/counts; }

# summary: the closing line; fails where something has failed
summary() {
	[ ! -s out/missing ] || not_ok "commands that are not there: $(tr '\n' ' ' <out/missing)"
	printf '\n%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" = 0 ]
}
