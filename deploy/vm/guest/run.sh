#!/usr/bin/env bash
# run.sh, in the test machine: fieldpost installed as on a board, its unit under
# systemd, its sensors and pins the kernel's, its broker mosquitto with mutual TLS.
# Everything is waited for, and every wait has an end. The machine boots six
# times, and run.sh is run in each boot.
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
# shellcheck source=deploy/vm/guest/package.sh
. ./package.sh
# shellcheck source=deploy/vm/guest/mail.sh
. ./mail.sh
# shellcheck source=deploy/vm/guest/kernel.sh
. ./kernel.sh
# shellcheck source=deploy/vm/guest/local.sh
. ./local.sh
# shellcheck source=deploy/vm/guest/reload.sh
. ./reload.sh
# shellcheck source=deploy/vm/guest/counters.sh
. ./counters.sh
# shellcheck source=deploy/vm/guest/credentials.sh
. ./credentials.sh
# shellcheck source=deploy/vm/guest/expander.sh
. ./expander.sh
# shellcheck source=deploy/vm/guest/pwm.sh
. ./pwm.sh
# shellcheck source=deploy/vm/guest/drawer.sh
. ./drawer.sh
# shellcheck source=deploy/vm/guest/pins.sh
. ./pins.sh
# shellcheck source=deploy/vm/guest/power.sh
. ./power.sh
# shellcheck source=deploy/vm/guest/storage.sh
. ./storage.sh

# how long the watchdog waits in these tests, in seconds
export WATCHDOG=8

board_tests() {
	[ -x ./board.test ] || return 0
	section "the board room's own tests, on these devices"
	systemctl stop "$UNIT"
	if FIELDPOST_TEST_GPIO=bench-gpio FIELDPOST_TEST_I2C="i2c-$BUS" ./board.test -test.v -test.timeout 300s >out/board.log 2>&1; then
		ok "$(grep -c '^--- PASS' out/board.log) tests of sensors/board"
	else
		not_ok "tests of sensors/board"
		grep -v '^=== ' out/board.log | tail -40 | sed 's/^/    /'
	fi
}

first_boot() {
	installation
	first_start
	if [ -e only ]; then # for who works on a part
		true_clock
		read -ra parts <only
		for part in "${parts[@]}"; do "$part"; done
		show_journal
		summary
		return
	fi
	readings
	clock_becomes_true
	orders
	steady
	outage fan 24
	crash
	local_socket
	metrics_address
	reload
	counters
	credentials
	drawer
	kernel_sensors
	expander
	pwm
	stop
	upgrade_package
	test_settings
	upgrade
	bad_configuration
	hang "output timers"
	hang link
	frozen
	panics
	echo "# memory: $(property MemoryCurrent) bytes now, $(property MemoryPeak) at most"
	reboot_in_order
}

case $(cat out/phase 2>/dev/null) in
'') first_boot ;;
after_reboot)
	after_reboot
	power_cut
	;;
after_power_cut)
	after_power_cut
	hardware_watchdog
	;;
after_watchdog)
	after_watchdog
	overlay_root
	;;
after_overlay) after_overlay ;;
after_overlay_cut)
	after_overlay_cut
	board_tests
	remove_package
	cp /run/watch.log out/ 2>/dev/null
	[ "$failed" = 0 ] || show_journal
	summary
	;;
esac
