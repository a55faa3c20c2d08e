# shellcheck shell=bash
# The machine reboots, in order and by a power cut. The tests go on in the next
# boot: `phase` tells where.

# before_reboot: the simulated hardware is there before fieldpost starts, as on a
# board, and the kernel's record begins
before_reboot() {
	local lib=/usr/local/lib/bench
	mkdir -p $lib
	cp assert.sh lines.sh trace.sh install.sh $lib/
	cat >$lib/hardware <<-'S'
		#!/bin/bash
		cd "$(dirname "$0")" && . ./assert.sh && . ./lines.sh && . ./trace.sh && . ./install.sh && bench-hw >/run/bench-hw && hardware && begin
	S
	chmod 0755 $lib/hardware
	printf '[Unit]\nBefore=fieldpost.service\n[Service]\nType=oneshot\nExecStart=%s\n[Install]\nWantedBy=multi-user.target\n' \
		$lib/hardware >/etc/systemd/system/bench-hw.service
	systemctl enable -q bench-hw.service
	cp /run/watch.log "out/watch-$1.log"
	last_run >out/run
	keep_counts
}

# after_boot WHAT: it came up by itself
after_boot() {
	local run
	run=$(cat out/run)
	eval "$(cat /run/bench-hw)"
	export CHIP LINES BUS REGS
	find_base
	came_up
	went 22 "1 0" "$1, pull unsafe"
	went 23 "1" "$1, active low, pull safe"
	went 24 "1 0" "$1, pull unsafe"
	start_broker
	start_watcher
	next_run "$run"
}

came_up() {
	check "the unit came up by itself" within 90 is_state active
	same "at the first try" 0 "$(property NRestarts)"
}

# next_run RUN: the run after that one has begun
next_run() {
	check "readings of the new run arrive" within 90 run_beyond "$1"
	same "its run is one higher" $(($1 + 1)) "$(last_run)"
}

reboot_in_order() {
	section "the machine reboots"
	before_reboot 1
	echo after_reboot >out/phase
	exit 100 # bench-run reboots
}

after_reboot() {
	section "the machine has rebooted"
	after_boot "reboot"
	true_clock
	within 30 message '.sensor == "soil" and .clock == null'
	check "orders work" order pump on --for 10m --wait 30s
}

# mail_waits: readings wait for the broker, which is stopped: ten of them on the disk, where
# a power cut leaves them. Most are the TMP102's, read once a second.
mail_waits() {
	stop_broker
	# the broker's own memory is not what is tested
	sync /var/lib/broker/mosquitto.db
	check "readings wait on the disk" within 90 status_says '.link.connected == false and .spool.waiting - .spool.at_risk >= 10'
}

power_cut() {
	section "the power is cut, with mail waiting"
	mail_waits
	before_reboot 2
	echo after_power_cut >out/phase
	sync -f out
	# at once: nothing is synced, nothing is unmounted
	echo b >/proc/sysrq-trigger
	sleep 60
}

after_power_cut() {
	section "the power is back"
	local run
	run=$(cat out/run)
	after_boot "power back"
	mail_arrives "$run"
	true_clock
	within 30 message '.sensor == "soil" and .clock == null'
	check "orders work" order pump on --wait 30s
}

# mail_arrives RUN: what waited when the run ended came out of the spool
mail_arrives() {
	local run=$1
	check "readings of before the cut arrive, from the spool" within 60 message ".sensor == \"soil\" and .run == $run"
	check "an uncertain gap tells that some may be missing" within 60 message ".kind == \"gap\" and .sensor == \"soil\" and .run == $run and .certain == false"
	messages ".kind == \"gap\" and .run == $run" | sed 's/^/# /'
	echo "# $(messages ".sensor == \"soil\" and .seq and .run == $run" | jq -s 'map(.seq) | unique | length') readings of run $run came out of the spool"
	same "the spool was not damaged" '' "$(messages '.kind == "fault" and (.code | test("damaged|spool"))')"
}

# hardware_watchdog: as deploy/README.md tells it; QEMU's board has an i6300esb
hardware_watchdog() {
	section "systemd hangs: the hardware watchdog resets the board"
	modprobe i6300esb
	check "the board has a watchdog" within 30 test -c /dev/watchdog0
	mkdir -p /etc/systemd/system.conf.d
	printf '[Manager]\nRuntimeWatchdogSec=15s\n' >/etc/systemd/system.conf.d/watchdog.conf
	check "systemd takes the setting" systemctl daemon-reexec
	check "systemd feeds it" within 30 watchdog_is_fed
	pump_on
	mail_waits
	before_reboot 3
	echo after_watchdog >out/phase
	sync -f out
	# systemd's answer to this is to freeze
	kill -SEGV 1
	sleep 90
	echo "the watchdog has not reset the board" >out/unreset
	sync -f out
	echo b >/proc/sysrq-trigger
	sleep 60
}
watchdog_is_fed() { find /proc/1/fd -lname '/dev/watchdog*' | grep .; }

after_watchdog() {
	section "the watchdog has reset the board"
	local run
	run=$(cat out/run)
	check "it was the watchdog" fails cat out/unreset
	rm /etc/systemd/system.conf.d/watchdog.conf
	after_boot "the watchdog's reset"
	mail_arrives "$run"
	true_clock
	check "orders work" order pump on --wait 30s
}
