# shellcheck shell=bash
# The kernel's own record of the output lines: every time that anybody sets a
# line, turns it into an input or lets go of it, the kernel writes that down
# (the trace events gpio_value and gpio_direction, and a probe in the chip's
# driver where it gives a released line back to its pull), with the time. So no
# change can be missed, however short.

TRACE=/sys/kernel/tracing
WATCHED=(22 23 24)
LABEL=bench-gpio RELEASE=gpio_sim:gpio_sim_free

# watch_lines: switches the record on; sched tells when a fieldpost begins and ends
watch_lines() {
	local event
	mountpoint -q $TRACE || mount -t tracefs tracefs $TRACE
	find_base
	echo mono >$TRACE/trace_clock
	echo "p:lines/released $RELEASE offset=%x1:u32" >$TRACE/kprobe_events
	echo "gpio >= $BASE && get == 0" >$TRACE/events/gpio/gpio_value/filter
	echo 'comm == "fieldpost"' >$TRACE/events/sched/sched_process_exit/filter
	echo 'filename ~ "*fieldpost" || filename ~ "*executor" || filename ~ "/proc/self/fd/*"' >$TRACE/events/sched/sched_process_exec/filter
	for event in gpio/gpio_value gpio/gpio_direction lines/released sched/sched_process_exit sched/sched_process_exec; do
		echo 1 >$TRACE/events/$event/enable
	done
	begin
}

# find_base: BASE is the kernel's number of the first line
find_base() {
	local chip
	for chip in /sys/class/gpio/gpiochip*; do
		[ "$(cat "$chip/label")" != "$LABEL" ] || BASE=$(cat "$chip/base")
	done
}

# level N: the level that line has now, from the kernel; is_level N LEVEL
level() {
	if [ -n "${LINES:-}" ]; then
		cat "$LINES/sim_gpio$1/value"
	else
		awk -v line="gpio-$((BASE + $1))" '$1 == line {print / hi /}' /sys/kernel/debug/gpio
	fi
}
is_level() { [ "$(level "$1")" = "$2" ]; }

# begin: forgets what was recorded until now
begin() {
	local n
	echo >$TRACE/trace
	for n in "${WATCHED[@]}"; do note_line "$n"; done
}

# note_line N: where the line's levels begin; to what it falls back when undriven
note_line() {
	local pull=0
	[ "$(cat "${LINES:-}/sim_gpio$1/pull" 2>/dev/null)" != pull-up ] || pull=1
	echo "line $1 $(level "$1") $pull" >$TRACE/trace_marker
}

# pull N up|down: while nobody drives the line, that is its level
pull() {
	echo "pull-$2" >"$LINES/sim_gpio$1/pull"
	note_line "$1"
}

# go [MICROSECONDS]: the moment from which `changes` and `timeline` count: now, or
# that long after the boot
go() { echo "go ${1:-}" >$TRACE/trace_marker; }

# changes N: each change of the line's level since `begin`: how many milliseconds
# after `go`, the new level, who made it
changes() {
	awk -v n="$1" -v gpio=$((BASE + $1)) '
		function to(new) { if (new != level) printf "%d %s %s\n", t - go, new, $1; level = new }
		{
			for (i = 2; i <= NF && $i !~ /^[0-9]+[.][0-9]+:$/; i++);
			if (i > NF) next
			t = $i * 1000
			event = $(i + 1)
		}
		event == "tracing_mark_write:" && $(i + 2) == "go" { go = i + 3 > NF ? t : $(i + 3) / 1000 }
		NR == FNR { next } # it is read twice: `go` may stand at the end
		event == "tracing_mark_write:" && $(i + 2) == "line" && $(i + 3) == n { level = $(i + 4); pull = $(i + 5) }
		event == "gpio_value:" && $(i + 2) == gpio { to($(i + 4)) }
		event == "gpio_direction:" && $(i + 2) == gpio && $(i + 3) == "in" { to(pull) }
		event == "released:" && $NF == "offset=" n { to(pull) }' $TRACE/trace $TRACE/trace
}

# went N LEVELS WHAT: the levels that the line has had since `begin`, the first
# one included; each but that is an edge
went() {
	local n=$1 want=$2 what=$3 first got
	first=$(awk -v n="$n" '$0 ~ "line " n " " {print $(NF - 1); exit}' $TRACE/trace)
	got=$(echo "$first" "$(changes "$n" | awk '{print $2}' | xargs)" | xargs)
	same "$what: $(edges "$got") on GPIO$n: $got" "$want" "$got"
	[ "$want" = "$got" ] || changes "$n" | sed 's/^/    /'
	same_quietly "the record of GPIO$n ends with its level" "$(level "$n")" "${got##* }"
	same_quietly "the record is whole" 1 "$(awk '/entries-written/ {split($3, n, "/"); print n[1] == n[2]}' $TRACE/trace)"
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

# timeline: what a death took, step by step: DIED, SEEN by systemd, SANDBOX set up
# and fieldpost begun, DRIVEN: each in milliseconds after the one before.
#
# The sandbox of ExecStopPost= takes some 0.7 s here and a twentieth of that on a
# board. What it takes beyond a second because this host is busy is SLOW, and
# those who hold a time against a limit add it.
timeline() {
	read -r DIED SEEN SANDBOX DRIVEN < <(awk -v gpio=$((BASE + 22)) '
		{
			for (i = 2; i <= NF && $i !~ /^[0-9]+[.][0-9]+:$/; i++);
			if (i > NF) next
			t = $i * 1000
			event = $(i + 1)
		}
		event == "tracing_mark_write:" && $(i + 2) == "go" { go = i + 3 > NF ? t : $(i + 3) / 1000 }
		NR == FNR || t < go { next }
		event == "sched_process_exit:" && !begun { died = t }
		event == "sched_process_exec:" && died && !begun {
			if (!seen) seen = /filename=.*fieldpost/ ? died : t # before systemd 254 without an executor
			if (/filename=.*fieldpost/) begun = t
		}
		event == "gpio_value:" && $(i + 2) == gpio && $(i + 4) == 0 && begun {
			printf "%d %d %d %d\n", died - go, seen - died, begun - seen, t - begun
			exit
		}' $TRACE/trace $TRACE/trace)
	echo "# dead after ${DIED:=0} ms, seen by systemd after ${SEEN:=0} more, sandbox set up after ${SANDBOX:=0} more, line safe after ${DRIVEN:=0} more"
	# shellcheck disable=SC2034  # for those that source this
	SLOW=$((SANDBOX > 1000 ? SANDBOX - 1000 : 0))
}
