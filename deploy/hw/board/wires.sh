# shellcheck shell=bash
# The levels of the output lines, as lines.sh wants them, seen at the other end of a wire:
# fieldpost-hw writes each edge of the inputs down, with the kernel's time.

WATCHED=(22 23)
RECORD=/run/fieldpost-hw.record MARKS=/run/fieldpost-hw.marks
# Where this kernel can trace, the trace tells what of a death was systemd's part.
TRACE=/sys/kernel/tracing/instances/fieldpost-hw

# record_wires WIRE...: begins a new record
record_wires() {
	systemctl stop "$RECORDER" 2>/dev/null
	: >$RECORD
	# it returns when all wires are watched
	systemd-run -q --unit="$RECORDER" --collect -p Type=notify -p StandardOutput=append:$RECORD "$HERE/bin/fieldpost-hw" record "$@" ||
		not_ok "the recorder starts"
	begin
}

# trace_deaths: where the kernel can
trace_deaths() {
	mkdir -p $TRACE 2>/dev/null && [ -e $TRACE/events/gpio/gpio_value ] && find_base && [ -n "${BASE:-}" ] && trace_events && return
	TRACE=''
	echo "# this kernel does not trace GPIO, so that what the sandbox takes is not known"
}

# level N: what the other end of the wire has, when it is settled. The recorder learns of an
# edge a little after the line has it.
level() {
	sleep 0.3
	last_level "$1"
}
last_level() { awk -v n="$1" '($2 == "line" || $2 == "level") && $3 == n {level = $4} END {print level}' $RECORD; }

# begin: what is recorded from the next line of the file on
begin() {
	local n
	sleep 0.3
	: >$MARKS
	echo "skip $(wc -l <$RECORD)" >>$MARKS
	for n in "${WATCHED[@]}"; do echo "0 line $n $(last_level "$n")" >>$MARKS; done
	[ -z "$TRACE" ] || echo >$TRACE/trace
}

go() {
	local at=${1:-}
	[ -z "$TRACE" ] || echo "go $at" >$TRACE/trace_marker
	if [ -n "$at" ]; then at=$((at / 1000)); else at=$(fieldpost-hw now); fi
	echo "$at go" >>$MARKS
}

record() {
	grep -v '^skip' $MARKS
	tail -n +$(($(sed -n 's/^skip //p' $MARKS) + 1)) $RECORD
}

# whole: 1 if the kernel has lost no edge and the recorder runs
whole() { if systemctl -q is-active "$RECORDER" && ! grep -q ' lost ' $RECORD; then echo 1; else echo 0; fi; }

# pull: the wires have had their pulls, at the unsafe level, from the beginning
pull() { :; }
