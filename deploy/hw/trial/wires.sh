#!/usr/bin/env bash
# wires.sh: two wires between lines of gpio-sim, which has none: GPIO22 to GPIO27, and GPIO23 to
# GPIO24. Each time that somebody sets an output or releases it, the kernel says so (trace events,
# in an instance of their own), and the level becomes that of the input. /run/wires.cut cuts both.
set -uo pipefail
bench-hw >/run/bench-hw
eval "$(cat /run/bench-hw)"
TRACING=/sys/kernel/tracing EVENTS=/sys/kernel/tracing/instances/wires
mountpoint -q $TRACING || mount -t tracefs tracefs $TRACING
for chip in /sys/class/gpio/gpiochip*; do
	[ "$(cat "$chip/label")" != bench-gpio ] || BASE=$(cat "$chip/base")
done
mkdir -p $EVENTS
echo 'p:wires/released gpio_sim:gpio_sim_free offset=%x1:u32' >>$TRACING/kprobe_events
echo "gpio >= $BASE && get == 0" >$EVENTS/events/gpio/gpio_value/filter
for event in gpio/gpio_value gpio/gpio_direction wires/released; do echo 1 >"$EVENTS/events/$event/enable"; done

# join OUT LEVEL: its input has that level now
join() {
	local in=27 pull=down
	[ "$1" = 22 ] || in=24
	[ "$2" = 0 ] || pull=up
	[ -e /run/wires.cut ] || echo pull-$pull >"$LINES/sim_gpio$in/pull"
}

exec 3<$EVENTS/trace_pipe
systemd-notify --ready
while :; do
	# the events have the levels, so that no short one is missed
	if read -t 0.1 -r line <&3 && [[ $line =~ gpio_value:\ ([0-9]+)\ set\ ([01]) ]]; then
		n=$((BASH_REMATCH[1] - BASE))
		case $n in 22 | 23) join $n "${BASH_REMATCH[2]}" ;; esac
		continue
	fi
	for n in 22 23; do
		read -r level <"$LINES/sim_gpio$n/value"
		join $n "$level"
	done
done
