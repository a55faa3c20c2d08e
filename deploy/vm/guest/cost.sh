#!/usr/bin/env bash
# run.sh, in the test machine, for `make vm-bench`: what the installed unit costs on a 64-bit ARM
# board, first with nothing to read, then with the readings of an hour in a tenth of it. The
# processor is emulated, so its time says only which of two builds takes less on one machine; the
# memory and what is written are a board's.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
# shellcheck source=deploy/vm/guest/assert.sh
. ./assert.sh
# shellcheck source=deploy/vm/guest/unit.sh
. ./unit.sh
# shellcheck source=deploy/vm/guest/package.sh
. ./package.sh
# shellcheck source=deploy/vm/guest/install.sh
. ./install.sh
# shellcheck source=deploy/vm/guest/figures.sh
. ./figures.sh

online() { journal_has -g '^connected'; }

# configure TEXT: the daemon uses the starter's configuration with these sensors
configure() {
	printf 'thing: bench\nbroker:\n  endpoint: 127.0.0.1:8883\n  certificate: certs/certificate.pem.crt\nreadings:\n  topic: field/bench\n%s\n' "$1" >"$CONFIG"
}

install_package
install_certificates
made=$(cat /run/bench-hw 2>/dev/null || bench-hw)
eval "$made"

section "nothing to read"
start_broker
check "the broker listens" within 30 broker_listens
configure ''
check "the unit starts" timeout 100 systemctl enable -q --now "$UNIT"
is_state active || give_up "fieldpost does not start"
check "it connects" within 60 online
measure 30 "half a minute after the start"
measure 150 "three minutes after the start, when the collector has run"

# The kernel maps 64 KiB around each page of the program that is touched. Where it maps only that
# page, one sees what is used. It is a setting of the whole machine, so nothing sets it but this.
around=/sys/kernel/debug/fault_around_bytes
section "the same where the kernel maps single pages"
mount -t debugfs none /sys/kernel/debug 2>/dev/null # it may be mounted
before=$(cat "$around")
check "fault_around_bytes can be set" tee "$around" <<<4096
check "the unit starts again" timeout 100 systemctl restart "$UNIT"
check "it connects again" within 60 online
measure 30 "half a minute after the start"
measure 150 "three minutes after the start, when the collector has run"
echo "$before" >"$around"
check "the unit starts as before" timeout 100 systemctl restart "$UNIT"

section "an hour's readings of two sensors that are read every 10 s"
configure "sensors:
  - {name: air, chip: bme280, bus: i2c-$BUS, address: 0x76, every: 100ms}
  - {name: soil, chip: tmp102, bus: i2c-$BUS, address: 0x48, every: 100ms}"
check "the unit takes them" timeout 100 systemctl reload "$UNIT"
measure 36 "720 readings in 36 s"

section "the same, after ten reloads"
for n in 0 1 2 3 4 5 6 7 8 9; do
	sed -i "s/every: 1..ms/every: 10${n}ms/" "$CONFIG" # another configuration each time
	check "reload $n" timeout 100 systemctl reload "$UNIT"
done
measure 36 "720 readings in 36 s"
summary
