# shellcheck shell=bash
# Readings and orders, and an outage of the broker.

readings() {
	section "readings"
	printf '\x0c\x81' | dd of="$REGS/regs_48" conv=notrunc status=none
	check "a temperature set in the TMP102 arrives at the broker" within 60 message '.sensor == "soil" and .temperature == 25'
	check "the BME280's arrives, compensated" within 60 message '.sensor == "air" and (.temperature | . > 25 and . < 25.2)'
	check "every reading says that the clock is not true yet" message '.sensor == "soil" and .clock == "unsynced"'
	check "fieldpost sub receives with a certificate" timeout 60 fieldpost sub -c "$CONFIG" --topic field/bench --count 1
	echo pull-up >"$LINES/sim_gpio17/pull"
	check "an edge on a line arrives" within 30 message '.sensor == "door" and .active == true'
	echo pull-down >"$LINES/sim_gpio17/pull"
	check "and the edge back" within 30 message '.sensor == "door" and .active == false'
	check "a missing chip is reported to the broker" within 60 message '.kind == "fault" and .sensor == "ghost" and .code == "no_answer" and .state == "raised"'
	check "and in the journal, found by its field" within 10 journal_has FIELDPOST_SENSOR=ghost FIELDPOST_CODE=no_answer
	check "journalctl -x explains it" bash -c 'journalctl -u fieldpost -x FIELDPOST_SENSOR=ghost | grep -q "What to do: Check its power"'
	check "the unit is still active" systemctl is-active "$UNIT"
}

# clock_becomes_true: orders that switch on wait for this
clock_becomes_true() {
	section "the clock becomes true"
	begin
	check "an order that switches on is refused while the clock is not true" refused_for_clock
	went 22 "0" "the refused order"
	true_clock
	check "from then on readings are stamped true" within 30 message '.sensor == "soil" and .clock == null'
}

orders() {
	section "orders"
	ordered 22 "0 1" pump on --for 30s
	check "the answer went through the broker" within 10 message '.kind == "answer" and .status == "done" and .output == "pump" and .state == "on"'
	ordered 22 "1" pump on --for 30s
	ordered 22 "1 0" pump off
	ordered 22 "0" pump off
	ordered 23 "1 0" heater on
	ordered 23 "0 1" heater toggle
	begin
	check "an order is answered with done" order pump pulse --for 300ms --wait 30s
	within 10 is_level 22 0
	went 22 "0 1 0" "pump pulse"
}

# ordered N LEVELS ORDER...: done, and that is what its line has gone through
ordered() {
	local n=$1 levels=$2
	shift 2
	begin
	check "an order is answered with done" order "$@" --wait 30s
	went "$n" "$levels" "$*"
}

refused_for_clock() {
	local answer
	answer=$(order pump on --for 30s --wait 30s 2>&1) && return 1
	echo "$answer"
	[[ $answer == *refused* ]]
}

# true_clock: what an NTP client does when it has the time
true_clock() { adjtimex --status 0 --maxerror 0 --esterror 0; }

# steady: a day in steady state writes less than 20 KB to the journal; here nothing in half a
# minute, though a chip is missing all the time
steady() {
	section "steady state"
	local at
	at=$(cursor)
	sleep 30
	same "nothing is written to the journal" '' "$(journalctl -u "$UNIT" -o cat --no-pager --after-cursor "$at")"
}

# outage OUTPUT N: of that output, on that line, whose safe_after is 5 s
outage() {
	section "the broker is away, then restarts"
	local output=$1 n=$2 before
	before=$(last_seq)
	check "the $output, safe after 5 s without a link, is on" order "$output" on --wait 30s
	begin
	go
	stop_broker
	within 30 is_level "$n" 0
	safe_time "$n" 0
	at_most 7000 "$SAFE" "the $output was safe"
	same_quietly "the $output was not switched off before its time" 1 "$((SAFE >= 5000))"
	went "$n" "1 0" "the broker is gone"
	sleep 3
	start_broker
	check "readings come again, and those of the outage" within 90 seq_beyond $((before + 8))
	check "and the event that the $output was made safe" within 30 message ".kind == \"event\" and .output == \"$output\" and .cause == \"link_lost\""
	same "no reading is missing" '[]' "$(missing)"
}

# last_seq: the last sequence number received, of the last run: each begins at 1
last_seq() { messages ".sensor == \"$SENSOR\" and .seq" | jq -s '(map(.run) | max) as $run | map(select(.run == $run).seq) | max // 0'; }
seq_beyond() { [ "$(last_seq)" -gt "$1" ]; }
# missing: the sequence numbers that did not arrive, of all runs
missing() { messages ".sensor == \"$SENSOR\" and .seq" | jq -sc '[.[] | [.run, .seq]] | unique | group_by(.[0]) | map(map(.[1]) | [range(.[0]; .[-1])] - .) | add'; }
last_run() { messages '.run' | jq -s 'map(.run) | max // 0'; }
run_beyond() { message ".sensor == \"$SENSOR\" and .run > $1"; }
