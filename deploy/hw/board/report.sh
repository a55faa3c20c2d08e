#!/usr/bin/env bash
# report.sh: prints the report to send in. It has no key, no name of a host, user or network,
# and no address.
set -uo pipefail
# shellcheck source=deploy/hw/board/place.sh
. "$(dirname "$0")/place.sh"

# without_secrets: a filter. What a report is for are the checks: in doubt it takes too much.
without_secrets() {
	sed -E \
		-e '/-----BEGIN/,/-----END/c\[key or certificate]' \
		-e 's/([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}/[mac]/g' \
		-e 's/\b127\.0\.0\.1\b/LOOPBACK/g' \
		-e 's/\b[0-9]{1,3}(\.[0-9]{1,3}){3}\b/[address]/g' \
		-e 's/LOOPBACK/127.0.0.1/g' \
		-e 's/\b[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{0,4}){4,7}\b/[address]/g' \
		-e 's/\b[0-9a-f]{32,}\b/[id]/g' \
		-e 's/\b[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4})*::[0-9a-fA-F:]*/[address]/g' \
		-e 's/\b[0-9a-f]{16}\b/[id]/g' \
		-e "$(hide_host)"
}

# hide_host: for sed; the names that nobody has chosen are no secret, and words of the report
hide_host() {
	case $(hostname) in
	raspberrypi | localhost | fieldpost | pi) ;;
	*) hostname | sed 's/[^A-Za-z0-9_-]/./g; s/.*/s\/\\b&\\b\/[host]\/g/' ;;
	esac
}

title() { printf '\n== %s\n\n' "$*"; }

board() {
	echo "board      $(tr -d '\0' </proc/device-tree/model 2>/dev/null || echo unknown)"
	echo "system     $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), $(dpkg --print-architecture)"
	echo "kernel     $(uname -srm) $(uname -v)"
	echo "systemd    $(systemctl --version | head -n 1)"
	echo "processors $(nproc), memory $(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo) MB"
	echo "fieldpost  $("$FIELDPOST" version 2>/dev/null | head -n 1)$([ "$(fact installed)" = no ] || echo ', as it was installed')"
	echo "chips      $(jq -r '[.gpio_chips[] | "\(.device) \(.label) with \(.lines | length) lines"] | join(", ")' out/scan.json)"
	echo "buses      $(jq -r '[.i2c_buses[] | "\(.name) \(.adapter // "")"] | join(", ")' out/scan.json)"
	echo "BME280     at $(fact bme280) of i2c-1"
	echo "wires      ${WIRES[*]}"
	echo "released lines keep their level: $(fact keeps)"
	[ ! -r /sys/devices/platform/soc/soc:firmware/get_throttled ] || echo "throttled  0x$(cat /sys/devices/platform/soc/soc:firmware/get_throttled)"
	[ ! -s only ] || echo "only these parts: $(cat only)"
}

{
	printf 'fieldpost on hardware, %s\n\n' "$(date -u +%FT%TZ)"
	if grep -q '^[0-9]* passed, [0-9]* failed$' out/run.log; then
		grep '^[0-9]* passed, [0-9]* failed$' out/run.log | tail -n 1
	else
		echo "NOT FINISHED: $(grep -c '^ok ' out/run.log) passed, $(grep -c '^not ok ' out/run.log) failed until then"
	fi
	grep '^not ok ' out/run.log
	title "the board"
	board
	title "the checks"
	cat out/run.log
	title "the board afterwards"
	cat out/restored
	if grep -q '^not ok ' out/run.log || ! grep -q ' passed, 0 failed$' out/run.log; then
		title "the journal"
		cat out/journal.txt
	fi
} 2>&1 | without_secrets
