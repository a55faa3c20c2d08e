# shellcheck shell=bash
# The lines through kill, stop, hang, panic, a bad configuration and an upgrade,
# with every pull at the unsafe level.

# pump_on: from here on the record counts
pump_on() {
	systemctl reset-failed "$UNIT" # RestartSec grows with the restarts
	check "the pump is on" order pump on --for 10m --wait 30s
	begin
}

restarted() { [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ] && is_state active; }
restarts() { [ "$(property NRestarts)" -ge "$1" ]; }

# let_go WHAT: a line that was safe falls back to its pull when the daemon dies,
# until `fieldpost safe` drives it
let_go() { if kernel_keeps; then went 23 "1" "$1, safe before"; else went 23 "1 0 1" "$1, safe before, let go and made safe"; fi; }

# middle NUMBER...: the middle one of them
middle() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

crash() {
	section "the daemon is killed, three times"
	local run before times=() busy=()
	run=$(last_run)
	for _ in 1 2 3; do
		pump_on
		before=$(pid)
		go
		systemctl kill -s KILL --kill-whom=main "$UNIT"
		within 60 restarted "$before"
		timeline
		went 22 "1 0" "killed and started again"
		let_go "killed and started again"
		safe_time 23 1
		at_most $((4000 + SLOW)) "$SAFE" "the line that was let go was safe"
		safe_time 22 0
		at_most $((4000 + SLOW)) "$SAFE" "the line that was on was safe"
		times+=("$SAFE") busy+=("$SLOW")
	done
	at_most $((2000 + $(middle "${busy[@]}"))) "$(middle "${times[@]}")" "the middle one of the three"
	check "readings of the new run arrive" within 60 run_beyond "$run"
}

# keeps: does this systemd go on keeping what a stopped unit has given it?
# From 254 on. An older one lets go of the lines; a start then drives them again.
keeps() { [ "$(property FileDescriptorStorePreserve)" = yes ]; }
stayed_safe() { # WHAT
	if keeps; then same "systemd keeps the safe lines" "${#WATCHED[@]}" "$(property NFileDescriptorStore)"; fi
	if keeps || kernel_keeps; then
		went 22 "1 0" "$1"
		went 23 "1" "$1"
	else
		went 22 "1 0 1" "$1, safe, then let go by this systemd"
		went 23 "1 0" "$1, let go by this systemd"
	fi
}
started_safe() { # WHAT
	if keeps || kernel_keeps; then
		went 22 "0" "$1"
		went 23 "1" "$1, active low"
	else
		went 22 "1 0" "$1"
		went 23 "0 1" "$1, active low"
	fi
}

stop() {
	section "the unit is stopped"
	local run
	run=$(last_run)
	pump_on
	go
	systemctl stop "$UNIT"
	safe_time 22 0
	at_most 2000 "$SAFE" "the line was safe"
	same "the unit is inactive" inactive "$(systemctl is-active "$UNIT")"
	stayed_safe "stopped"
	begin
	check "it starts again" timeout 100 systemctl start "$UNIT"
	started_safe "started again"
	same "no line is kept by systemd now" 0 "$(property NFileDescriptorStore)"
	check "readings of the new run arrive" within 60 run_beyond "$run"
	same "no reading of any run is missing" '[]' "$(missing)"
}

# test_settings: a short watchdog, and the file that tells a rehearsal what is to go wrong
test_settings() {
	mkdir -p "/run/systemd/system/$UNIT.service.d"
	printf '[Service]\nWatchdogSec=%s\nEnvironment=FIELDPOST_REHEARSE=/run/fieldpost/rehearse\n' "$WATCHDOG" \
		>"/run/systemd/system/$UNIT.service.d/test.conf"
	systemctl daemon-reload
}

# replace_binary FILE: as a package manager does, under the running daemon
replace_binary() { install -m 0755 "$1" /usr/bin/.fieldpost.new && mv /usr/bin/.fieldpost.new /usr/bin/fieldpost; }

upgrade() {
	section "the binary is replaced while it runs"
	pump_on
	replace_binary rehearsal
	went 22 "1" "replaced"
	check "it is restarted" timeout 100 systemctl restart "$UNIT"
	went 22 "1 0" "restarted with the new one"
	went 23 "1" "restarted with the new one"
	check "the new one runs" cmp /usr/bin/fieldpost "/proc/$(pid)/exe"

	pump_on
	cp rehearsal /run/broken
	printf '\x3e' | dd of=/run/broken bs=1 seek=18 conv=notrunc status=none # e_machine: x86-64
	replace_binary /run/broken
	check "a binary for another machine does not start" fails timeout 100 systemctl restart "$UNIT"
	went 22 "1 0" "restarted with a binary for another machine"
	went 23 "1" "restarted with a binary for another machine"
	head -c 1000000 rehearsal >/run/broken
	replace_binary /run/broken
	begin
	check "one that was cut short does not start" fails timeout 100 systemctl start "$UNIT"
	went 22 "0" "started with a binary cut short"
	same "systemd keeps the safe lines" "${#WATCHED[@]}" "$(property NFileDescriptorStore)"
	replace_binary rehearsal
	check "with a whole one it starts" timeout 100 systemctl start "$UNIT"
	went 22 "0" "started with a whole one"
	went 23 "1" "started with a whole one"
}
fails() { ! "$@"; }

bad_configuration() {
	section "the configuration is bad"
	pump_on
	chmod 0600 "$CONFIG" # root's alone
	check "it does not start with a configuration that it may not read" fails timeout 100 systemctl restart "$UNIT"
	went 22 "1 0" "restarted, configuration unreadable"
	went 23 "1" "restarted, configuration unreadable"
	chmod 0644 "$CONFIG"
	cp "$CONFIG" /run/good.yaml
	echo 'nonsense: true' >>"$CONFIG"
	if keeps; then systemctl stop "$UNIT"; fi # an older systemd lets go then
	begin
	check "it does not start with a wrong configuration" fails timeout 100 systemctl start "$UNIT"
	check "systemd tries again" within 30 restarts 2
	went 22 "0" "started three times, configuration wrong"
	went 23 "1" "started three times, configuration wrong"
	cat /run/good.yaml >"$CONFIG"
	# the first of these may join a start that has read the wrong one
	check "with a good one it starts" within 60 systemctl start "$UNIT"
	went 22 "0" "started, configuration good"
	went 23 "1" "started, configuration good"
}

# rehearse WHAT: from now on that goes wrong in the running daemon, and in the
# next ones too; rehearse '' ends it
rehearse() { if [ -n "$1" ]; then echo "$1" >/run/fieldpost/rehearse; else rm -f /run/fieldpost/rehearse; fi; }

# hang LOOP: counts from when it hangs, not from when it is told to, which is up to
# two seconds before. The daemon itself makes its lines safe and hands them over,
# before systemd kills it, so they stay driven.
hang() {
	section "one loop hangs: $1"
	local before
	pump_on
	before=$(pid)
	rehearse "hang $1"
	within 60 is_level 22 0
	rehearse ''
	go "$(journalctl -u "$UNIT" -o json --output-fields=MESSAGE | jq -r --arg loop "$1" \
		'select(.MESSAGE == "rehearsal: \($loop) hangs") | .__MONOTONIC_TIMESTAMP' | tail -1)"
	safe_time 22 0
	at_most $((WATCHDOG * 1000 + 2000)) "$SAFE" "the line was safe"
	check "the unit is active again" within 90 restarted "$before"
	went 22 "1 0" "hung and was killed"
	went 23 "1" "hung and was killed"
}

frozen() {
	section "the whole process is frozen: no signal but KILL ends it"
	local before
	pump_on
	before=$(pid)
	go
	kill -STOP "$before"
	check "the unit is active again" within 90 restarted "$before"
	timeline
	safe_time 22 0
	# it hears no SIGABRT either: TimeoutAbortSec=5 passes
	at_most $((WATCHDOG * 1000 + 5000 + 2000 + SLOW)) "$SAFE" "the line was safe"
	went 22 "1 0" "frozen and killed"
	let_go "frozen and killed"
}

panics() {
	section "one loop panics, at every start"
	pump_on
	go
	rehearse "panic scheduler"
	check "it was started again, and again" within 60 restarts 3
	safe_time 22 0
	at_most 5000 "$SAFE" "the line was safe"
	rehearse ''
	check "the unit is active again" within 90 is_state active
	went 22 "1 0" "panicked, three times"
	went 23 "1" "panicked, three times"
}
