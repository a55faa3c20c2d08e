#!/usr/bin/env bash
# run.sh, on the board, as a service: the checks. Most of them are those of the test machine
# (deploy/vm/guest); here the lines are seen over wires, the chip is real, and the broker is
# fieldpost's own. When it ends in any way, restore.sh puts the board back as it was.
set -uo pipefail
# shellcheck source=deploy/hw/board/place.sh
. "$(dirname "$0")/place.sh"
umask 022
# shellcheck source=deploy/vm/guest/assert.sh
. ./assert.sh
# shellcheck source=deploy/vm/guest/lines.sh
. ./lines.sh
# shellcheck source=deploy/vm/guest/trace.sh
. ./trace.sh
SENSOR=air
# shellcheck source=deploy/vm/guest/unit.sh
. ./unit.sh
# shellcheck source=deploy/vm/guest/install.sh
. ./install.sh
# shellcheck source=deploy/vm/guest/package.sh
. ./package.sh
# shellcheck source=deploy/vm/guest/mail.sh
. ./mail.sh
# shellcheck source=deploy/vm/guest/local.sh
. ./local.sh
# shellcheck source=deploy/vm/guest/reload.sh
. ./reload.sh
# shellcheck source=deploy/vm/guest/pins.sh
. ./pins.sh
# shellcheck source=deploy/vm/guest/power.sh
. ./power.sh
# shellcheck source=deploy/vm/guest/figures.sh
. ./figures.sh
# shellcheck source=deploy/hw/board/wires.sh
. ./wires.sh
# shellcheck source=deploy/hw/board/broker.sh
. ./broker.sh

KERNEL_KEEPS=$(fact keeps)
CHIP=$(jq -r '.gpio_chips[] | select(.lines[]?.name == "GPIO22") | .device' out/scan.json | head -n 1)
LABEL=$(jq -r '.gpio_chips[] | select(.lines[]?.name == "GPIO22") | .label' out/scan.json | head -n 1)
BUS=1
export KERNEL_KEEPS CHIP LABEL BUS
# how long the watchdog waits in these tests, in seconds
export WATCHDOG=8

deb() { echo fieldpost.deb; }
version() { dpkg-deb -f fieldpost.deb Version; }
ours() { [ "$(fact installed)" = no ]; }

install_here() {
	if ours; then install_package; else section "fieldpost as it is installed"; fi
	install_certificates
	local heater=GPIO23
	[[ $LABEL != pinctrl-* ]] || heater=P1_16 # as it is on a Raspberry Pi
	sed "s/@BME280@/$(fact bme280)/; s/@SILENT@/$(fact silent)/; s/@GPIO23@/$heater/" fieldpost.yaml >"$CONFIG"
	installed_well
}

# The pulls of both wires are at the unsafe level from the beginning.
start_here() {
	section "start"
	trace_deaths
	record_wires "${WIRES[@]}"
	start_unit
	went 22 "1 0" "the first start, pull unsafe"
	went 23 "0 1" "the first start, active low, initial off, pull unsafe"
	runs_well
}

readings_here() {
	section "readings of the BME280"
	check "its temperature is one of a room" within 60 message '.sensor == "air" and .temperature > -20 and .temperature < 60'
	check "its pressure is one of the earth" message '.sensor == "air" and .pressure > 50000 and .pressure < 110000'
	check "its humidity is one of the air" message '.sensor == "air" and .humidity >= 0 and .humidity <= 100'
	check "readings are stamped true" message '.sensor == "air" and .clock == null'
	check "a missing chip is reported to the broker" within 60 message '.kind == "fault" and .sensor == "ghost" and .code == "no_answer" and .state == "raised"'
	check "and in the journal, found by its field" within 10 journal_has FIELDPOST_SENSOR=ghost FIELDPOST_CODE=no_answer
}

# input: the other end of the heater's wire becomes an input of fieldpost
input() {
	section "an input, over a wire"
	cp "$CONFIG" /run/unchanged.yaml
	WATCHED=(22)
	record_wires "${WIRES[0]}"
	edit '/^outputs:/i\  - {name: door, chip: gpio, pin: GPIO24}'
	check "a reload adds the input" timeout 100 systemctl reload "$UNIT"
	check "its level arrives" within 30 message '.sensor == "door" and .active == true'
	check "the heater goes on" order heater on --wait 30s
	check "the edge arrives" within 30 message '.sensor == "door" and .active == false'
	local edges
	edges=$(doors)
	check "the heater goes off" order heater off --wait 30s
	check "so does the edge back" within 30 doors_beyond "$edges"
	edges=$(doors)
	check "the heater is on for 100 ms" order heater pulse --for 100ms --wait 30s
	check "both edges of that arrive" within 30 doors_beyond $((edges + 1))
	same "with the times of the kernel, 100 ms apart" 1 "$(pulse_width | awk '{print ($1 >= 95 && $1 <= 400)}')"
	echo "# the pulse of 100 ms was $(pulse_width) ms long"
	edit ''
	check "a reload removes the input" timeout 100 systemctl reload "$UNIT"
	WATCHED=(22 23)
	record_wires "${WIRES[@]}"
}
doors() { messages '.sensor == "door" and .seq' | jq -s length; }
doors_beyond() { [ "$(doors)" -gt "$1" ]; }
# pulse_width: the milliseconds between the last two edges, of their times
pulse_width() {
	messages '.sensor == "door" and .seq' | jq -s '.[-2:] | map(.time | capture("(?<s>.*)\\.(?<ms>[0-9]+)Z") | (.s + "Z" | fromdate) * 1000 + (.ms | tonumber)) | .[1] - .[0]'
}

figures() {
	section "what it costs"
	measure 60 "a reading a second, one chip missing"
}

# reboot_here: the recorder begins before fieldpost does, as in the first boot
reboot_here() {
	section "the board reboots"
	printf '[Unit]\nBefore=fieldpost.service\n[Service]\nType=notify\nExecStart=%s/bin/fieldpost-hw record %s\nStandardOutput=append:%s\n[Install]\nWantedBy=multi-user.target\n' \
		"$HERE" "${WIRES[*]}" "$RECORD" >"/etc/systemd/system/$RECORDER-boot.service"
	systemctl enable -q "$RECORDER-boot.service"
	cp /run/watch.log out/watch.log
	last_run >out/run
	keep_counts
	echo rebooting >out/phase
	sync
	systemctl reboot
	sleep infinity
}

after_reboot_here() {
	section "the board has rebooted"
	rm "/etc/systemd/system/$RECORDER-boot.service"
	RECORDER=$RECORDER-boot
	printf 'skip 0\n' >$MARKS
	TRACE=''
	check "the recorder runs" within 60 systemctl is-active "$RECORDER"
	came_up
	went 22 "1 0" "reboot, pull unsafe"
	went 23 "0 1" "reboot, active low, pull unsafe"
	check "the broker starts" serve
	start_broker
	cp out/watch.log /run/watch.log
	start_watcher
	next_run "$(cat out/run)"
	check "orders work" order pump on --wait 30s
	check "also to switch off" order pump off --wait 30s
}

# wanted SECTION: is it one of those that were asked for?
wanted() { [ ! -s only ] || grep -qwF "$1" only; }
perform() { # SECTION COMMAND...
	local name=$1
	shift
	! wanted "$name" || "$@"
}

first_run() {
	serve || give_up "the broker does not start"
	install_here
	start_here
	perform readings readings_here
	perform orders orders
	perform steady steady
	perform outage outage pump 22
	perform crash crash
	perform local local_socket
	perform reload reload
	perform edges input
	perform stop stop
	perform figures figures
	test_settings
	if ours && wanted upgrade; then
		upgrade
		perform hang hang "output timers"
		perform hang hang link
		perform panics panics
	fi
	perform configuration bad_configuration
	perform frozen frozen
	[ ! -e reboot ] || reboot_here
}

last_checks() {
	if ours && wanted remove; then
		cp "$CONFIG" out/config.before
		remove_package
	fi
	summary
}

# begin: a run that did not get to its end is not begun again
phase=$(cat out/phase)
echo begun >out/phase
sync -f out/phase
case $phase in
start) first_run ;;
rebooting) after_reboot_here ;;
*)
	printf '\nthe board went down while it was tested\n'
	exit 1
	;;
esac
last_checks
