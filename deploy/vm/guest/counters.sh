# shellcheck shell=bash
# Pulses and an ultrasonic ranger on the kernel's lines, for run.sh. The water meter is
# GPIO5, 10 litres a pulse; GPIO6 and GPIO7 are trigger and echo.

# follow_edges FUNCTION: EDGES gets a line each time that the kernel has put an edge into the
# queue of its reader, when FUNCTION of the kernel ends: edge_irq_thread, or for a line with
# debounce debounce_work_func. Without waiting for that, gpio-sim merges changes that come
# before the thread runs, however slow they are: on a busy host it may wait.
follow_edges() {
	echo "r:lines/edge $1" >>"$TRACE/kprobe_events"
	mkdir -p "$TRACE/instances/edges"
	echo 1 >"$TRACE/instances/edges/events/lines/edge/enable"
	exec {EDGES}< <(exec cat "$TRACE/instances/edges/trace_pipe")
	FOLLOWER=$!
}
unfollow_edges() {
	kill "$FOLLOWER"
	exec {EDGES}<&-
	echo 0 >"$TRACE/instances/edges/events/lines/edge/enable"
	# the pipe is in use until cat has ended
	within 10 rmdir "$TRACE/instances/edges"
	echo '-:lines/edge' >>"$TRACE/kprobe_events"
}

# pulses N [GPIO ACTIVE REST]: N pulses on the meter's line. The kernel has seen each change before
# the next.
pulses() {
	local n level
	for ((n = 1; n <= $1; n++)); do
		for level in "${3:-up}" "${4:-down}"; do
			echo "pull-$level" >"$LINES/sim_gpio${2:-5}/pull"
			read -rt 60 -u "$EDGES" _ || { echo "the kernel has not seen pulse $n go $level" && return 1; }
		done
	done
}

# water RUN FILTER: a reading of the meter has come, of a run after RUN, for which the filter is true
water() { message ".sensor == \"meter\" and .run > $1 and ($2)"; }

# counted COUNT GAPS: that is in the reading, with the litres
counted() { echo ".count == $1 and .volume == $((100 + 10 * $1)) and .gaps == $2"; }

# echoes: answers each trigger pulse with an echo of 5 ms and more. gpio-sim does not connect
# lines, and the pulse is too short to poll it; the kernel's record has it. A busy host may
# delay an echo beyond the 45 ms that the driver waits, or make it longer. So one of many
# measurements must succeed, and only that no echo is shorter than it was made is exact.
echoes() {
	local nobody
	exec {nobody}<> <(:) # a pipe into which nobody writes: a wait without a process
	mkdir -p "$TRACE/instances/ranger"
	echo "gpio == $((BASE + 6)) && value == 0 && get == 0" >"$TRACE/instances/ranger/events/gpio/gpio_value/filter"
	echo 1 >"$TRACE/instances/ranger/events/gpio/gpio_value/enable"
	while read -r _; do
		echo pull-up >"$LINES/sim_gpio7/pull"
		read -rt 0.005 -u "$nobody" _
		echo pull-down >"$LINES/sim_gpio7/pull"
	done <"$TRACE/instances/ranger/trace_pipe"
}

# with_sensor ENTRY: one more in the configuration
with_sensor() {
	sed "/^outputs:/i\\  - $1" "$CONFIG" >/run/with.yaml
	cat /run/with.yaml >"$CONFIG"
}

counters() {
	section "pulses are counted"
	local before=-1 echoing
	cat "$CONFIG" >/run/uncounted.yaml
	with_sensor '{name: meter, chip: counter, pin: GPIO5, debounce: 0, measures: water, per_pulse: 10, start: 100, every: 2s}'
	check "a counter is added by a reload" timeout 100 systemctl reload "$UNIT"
	check "its total begins at start" within 150 water "$before" "$(counted 0 0)"
	follow_edges edge_irq_thread
	check "the kernel sees 500 pulses, one by one" pulses 500
	before=$(last_run)
	check "restarted after them" systemctl restart "$UNIT"
	check "it has counted all of them" within 150 water "$before" "$(counted 500 1)"
	check "37 more" pulses 37
	check "are in a reading, with a flow" within 150 water "$before" "$(counted 537 1) and .flow > 0"
	# more than the kernel's queue of 256 edges holds, while nobody reads it; a busy host may
	# need longer for them than the unit's watchdog waits
	systemctl service-watchdogs no
	kill -STOP "$(pid)"
	check "140 more while the daemon is frozen" pulses 140
	kill -CONT "$(pid)"
	check "it goes on" within 150 water "$before" '.count > 537'
	systemctl service-watchdogs yes
	check "are counted by the kernel's sequence numbers" within 150 water "$before" "$(counted 677 1)"
	same "it is the same run" $((before + 1)) "$(last_run)"
	before=$(last_run)
	systemctl kill -s KILL --kill-whom=main "$UNIT"
	check "killed, it goes on at that total" within 150 water "$before" "$(counted 677 2)"
	check "5 more" pulses 5
	before=$(last_run)
	systemctl kill -s KILL --kill-whom=main "$UNIT"
	check "killed right after them, it says that some may be missing" within 150 water "$before" '.gaps == 3 and .count >= 677 and .count <= 682'
	unfollow_edges
	same "no total was lower than one before" true "$(messages '.sensor == "meter" and .count' | jq -sc '[.[] | [.run, .seq, .count]] | sort | map(.[2]) | . == sort')"
	same "no kernel edge was missed" '' "$(messages '.kind == "fault" and .sensor == "meter"')"

	section "an ultrasonic ranger"
	find_base
	with_sensor '{name: tank, chip: ultrasonic, trigger: GPIO6, echo: GPIO7, every: 2s}'
	check "it is added by a reload" timeout 100 systemctl reload "$UNIT"
	check "without an echo that is reported" within 60 message '.kind == "fault" and .sensor == "tank" and .code == "no_answer" and .state == "raised"'
	echoes &
	echoing=$!
	check "an echo of 5 ms and more is a distance" within 90 message '.sensor == "tank" and .in_range == true and .distance > 0.85 and .distance < 5'
	kill "$echoing"
	wait "$echoing" 2>/dev/null
	rmdir "$TRACE/instances/ranger"
	same "the trigger is low" 0 "$(level 6)"
	cat /run/uncounted.yaml >"$CONFIG"
	check "both are removed by a reload" timeout 100 systemctl reload "$UNIT"
	same "the trigger is still low" 0 "$(level 6)"
}
