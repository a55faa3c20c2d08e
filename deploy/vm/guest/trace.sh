# shellcheck shell=bash
# The kernel's own record of the output lines: every time that anybody sets a
# line, turns it into an input or lets go of it, the kernel writes that down
# (the trace events gpio_value and gpio_direction, and a probe in the chip's
# driver where it gives a released line back to its pull), with the time. So no
# change can be missed, however short.

TRACE=/sys/kernel/tracing
LABEL=bench-gpio RELEASE=gpio_sim:gpio_sim_free

# watch_lines: switches the record on
watch_lines() {
	mountpoint -q $TRACE || mount -t tracefs tracefs $TRACE
	find_base
	echo "p:lines/released $RELEASE offset=%x1:u32" >$TRACE/kprobe_events
	trace_events gpio/gpio_direction lines/released
	begin
}

# trace_events EVENT...: records them, besides the levels that are set, and when a fieldpost
# begins and ends
trace_events() {
	local event
	echo mono >$TRACE/trace_clock
	echo "gpio >= $BASE && get == 0" >$TRACE/events/gpio/gpio_value/filter
	echo 'comm == "fieldpost"' >$TRACE/events/sched/sched_process_exit/filter
	echo 'filename ~ "*fieldpost" || filename ~ "*executor" || filename ~ "/proc/self/fd/*"' >$TRACE/events/sched/sched_process_exec/filter
	for event in gpio/gpio_value sched/sched_process_exit sched/sched_process_exec "$@"; do
		echo 1 >"$TRACE/events/$event/enable"
	done
}

# find_base: BASE is the kernel's number of the first line
find_base() {
	local chip
	for chip in /sys/class/gpio/gpiochip*; do
		[ "$(cat "$chip/label")" != "$LABEL" ] || BASE=$(cat "$chip/base")
	done
}

# level N: the level that line has now, from the kernel
level() {
	if [ -n "${LINES:-}" ]; then
		cat "$LINES/sim_gpio$1/value"
	else
		awk -v line="gpio-$((BASE + $1))" '$1 == line {print / hi /}' /sys/kernel/debug/gpio
	fi
}

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

# go [MICROSECONDS]: the moment from which times count: now, or that long after the boot
go() { echo "go ${1:-}" >$TRACE/trace_marker; }

# record: as lines.sh describes it
record() {
	awk -v base="$BASE" '
		function to(n, level) { printf "%.3f level %d %d %s\n", t, n, level, $1 }
		{
			for (i = 2; i <= NF && $i !~ /^[0-9]+[.][0-9]+:$/; i++);
			if (i > NF) next
			t = $i * 1000
			event = $(i + 1)
		}
		event == "tracing_mark_write:" && $(i + 2) == "go" { printf "%.3f go\n", (i + 3 > NF ? t : $(i + 3) / 1000) }
		event == "tracing_mark_write:" && $(i + 2) == "line" { n = $(i + 3); pull[n] = $(i + 5); printf "%.3f line %d %d\n", t, n, $(i + 4) }
		event == "gpio_value:" { to($(i + 2) - base, $(i + 4)) }
		event == "gpio_direction:" && $(i + 3) == "in" { n = $(i + 2) - base; if (n in pull) to(n, pull[n]) }
		event == "released:" { split($NF, offset, "="); n = offset[2]; if (n in pull) to(n, pull[n]) }' $TRACE/trace
}

# whole: 1 if the kernel has lost no event
whole() { awk '/entries-written/ {split($3, n, "/"); print n[1] == n[2]}' $TRACE/trace; }

# timeline: what a death took, step by step: DIED, SEEN by systemd, SANDBOX set up
# and fieldpost begun, DRIVEN: each in milliseconds after the one before.
#
# The sandbox of ExecStopPost= takes some 0.7 s here and a twentieth of that on a
# board. What it takes beyond a second because this host is busy is SLOW, and
# those who hold a time against a limit add it.
timeline() {
	SLOW=0
	[ -n "$TRACE" ] || return 0 # a board's kernel may have none
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
