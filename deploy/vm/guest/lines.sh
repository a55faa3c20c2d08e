# shellcheck shell=bash
# The levels that the output lines have had. Another file records them: trace.sh in the
# test machine, deploy/hw/board/wires.sh on a board. It provides
#
#   begin          forgets what was recorded until now
#   go [MICROS]    the moment from which times count: now, or that long after the boot
#   level N        the level that line N has now
#   pull N up|down while nobody drives the line, that is its level
#   whole          prints 1 if nothing is missing in the record
#   record         prints the record, one event a line, with a time in milliseconds:
#                  TIME line N LEVEL, TIME level N LEVEL BY-WHOM, TIME go

# shellcheck disable=SC2034  # for those that record
WATCHED=(22 23 24)

is_level() { [ "$(level "$1")" = "$2" ]; }

# kernel_keeps: does the kernel keep the level of a line that is released? A Raspberry
# Pi's own does. Any other one gives the line back to its pull.
kernel_keeps() { [ "${KERNEL_KEEPS:-no}" = yes ]; }

# changes N: each change of the line's level since `begin`: how many milliseconds
# after `go`, the new level, who made it
changes() {
	record | awk -v n="$1" '
		$2 == "go" { go = $1 }
		$2 == "line" && $3 == n { level = $4; noted = 1 }
		# what is recorded before the line is noted was there when `begin` looked at it
		noted && $2 == "level" && $3 == n && $4 != level { level = $4; at[++count] = $1; to[count] = $4; by[count] = $5 }
		END { for (i = 1; i <= count; i++) printf "%d %s %s\n", at[i] - go, to[i], by[i] }'
}

# went N LEVELS WHAT: the levels that the line has had since `begin`, the first
# one included; each but that is an edge
went() {
	local n=$1 want=$2 what=$3 first got
	first=$(record | awk -v n="$n" '$2 == "line" && $3 == n {print $4; exit}')
	got=$(echo "$first" "$(changes "$n" | awk '{print $2}' | xargs)" | xargs)
	same "$what: $(edges "$got") on GPIO$n: $got" "$want" "$got"
	[ "$want" = "$got" ] || changes "$n" | sed 's/^/    /'
	same_quietly "the record of GPIO$n ends with its level" "$(level "$n")" "${got##* }"
	same_quietly "the record is whole" 1 "$(whole)"
}
# edges LEVELS: how many there are between them
edges() {
	local n
	n=$(($(wc -w <<<"$1") - 1))
	case $n in
	0) echo "no edge" ;;
	1) echo "1 edge" ;;
	*) echo "$n edges" ;;
	esac
}

# safe_time N LEVEL: SAFE is how long after `go` the line came to that level
safe_time() {
	SAFE=$(changes "$1" | awk -v level="$2" '$2 == level && $1 >= 0 {print $1; exit}')
	SAFE=${SAFE:-999999}
}
