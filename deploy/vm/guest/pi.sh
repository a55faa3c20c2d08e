#!/usr/bin/env bash
# pi.sh, run as run.sh in the emulated Raspberry Pi 3: its own GPIO chip, whose
# lines are found by each kind of name, and its own I2C controller.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
# shellcheck source=deploy/vm/guest/assert.sh
. ./assert.sh
# shellcheck source=deploy/vm/guest/lines.sh
. ./lines.sh
# shellcheck source=deploy/vm/guest/trace.sh
. ./trace.sh
# shellcheck source=deploy/vm/guest/unit.sh
. ./unit.sh
# shellcheck source=deploy/vm/guest/install.sh
. ./install.sh
# shellcheck source=deploy/vm/guest/mail.sh
. ./mail.sh
# shellcheck source=deploy/vm/guest/pins.sh
. ./pins.sh

# a mainline kernel makes an input of a released line
export LABEL=pinctrl-bcm2835 RELEASE=bcm2835_pmx_free

start() {
	section "start on $(tr -d '\0' </proc/device-tree/model)"
	cp fieldpost.yaml "$CONFIG"
	kernel_drivers
	check "the configuration is accepted" as_fieldpost fieldpost check -c "$CONFIG"
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
	watch_lines
	start_broker
	check "the broker listens" within 60 broker_listens
	start_watcher
	begin
	check "the unit is enabled and starts: READY has come" timeout 200 systemctl enable -q --now "$UNIT"
	is_state active || give_up "fieldpost does not start"
	went 22 "0" "the first start"
	went 23 "0 1" "the first start, active low, pull unsafe"
	went 24 "0" "the first start"
	true_clock
}

# kernel_drivers: loads those of the other chips that QEMU's board has on its bus
kernel_drivers() {
	local chip
	for chip in "emc1413 0x4c" "dps310 0x77" "ds1338 0x68"; do
		echo "$chip" >/sys/bus/i2c/devices/i2c-1/new_device
	done
	udevadm settle
	check "scan says which drivers hold addresses" scan_names emc1403 dps310 rtc-ds1307
}
scan_names() {
	local found name
	found=$(as_fieldpost fieldpost scan)
	for name; do grep -q "UU, belongs to the kernel's driver $name" <<<"$found" || { echo "$found" && return 1; }; done
}

names() {
	section "lines by each kind of name, the I2C bus by its number"
	ordered 22 "0 1" pump on
	ordered 22 "1 0" pump off
	ordered 23 "1 0" heater on
	ordered 23 "0 1" heater off
	ordered 24 "0 1" fan on
	ordered 24 "1 0" fan off
	check "the temperature of the TMP105 arrives" within 60 message '.sensor == "soil" and .temperature == 37.5'
	check "hwmon, emc1413: a temperature arrives" within 60 message '.sensor == "k-emc1413" and .temperature == 22'
	check "iio, dps310: temperature and pressure arrive" within 60 message '.sensor == "k-dps310" and .temperature and .pressure'
	messages '.sensor == "k-dps310" or .sensor == "cpu"' | head -n 2 | sed 's/^/# /'
	check "thermal: the processor's temperature arrives" within 60 message '.sensor == "cpu" and .temperature'
	check "a missing chip is reported" within 60 message '.kind == "fault" and .sensor == "ghost" and .code == "no_answer"'
}

through_kill_and_stop() {
	section "kill, stop and start"
	local before
	pump_on
	before=$(pid)
	go
	systemctl kill -s KILL --kill-whom=main "$UNIT"
	check "it is started again" within 90 restarted "$before"
	went 22 "1 0" "killed and started again"
	let_go "killed and started again"
	timeline
	pump_on
	systemctl stop "$UNIT"
	went 22 "1 0" "stopped"
	went 23 "1" "stopped"
	begin
	check "it starts again" timeout 200 systemctl start "$UNIT"
	went 22 "0" "started again"
	went 23 "1" "started again"
}

# a Pi has no clock; it begins where systemd was built
date -s "@$(($(stat -c %Y certs/certificate.pem.crt) + 60))" >out/date
SECONDS=0
install_files
start
names
through_kill_and_stop
cp /run/watch.log out/ 2>/dev/null
[ "$failed" = 0 ] || show_journal
summary
