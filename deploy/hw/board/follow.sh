#!/usr/bin/env bash
# follow.sh N: prints the log of the checks from line N+1 on, until they are over
# shellcheck source=deploy/hw/board/place.sh
. "$(dirname "$0")/place.sh"
n=$1
while :; do
	over=no state=$(systemctl is-active "$CHECKS")
	case $state in
	inactive | failed | unknown) [ ! -e report.txt ] || over=yes ;;
	esac
	lines=$(wc -l <out/run.log 2>/dev/null || echo 0)
	if [ "$lines" -gt "$n" ]; then
		sed -n "$((n + 1)),${lines}p" out/run.log
		n=$lines
	fi
	[ $over = no ] || exit 0
	if [ "$state" != active ] && [ "$(cat out/phase 2>/dev/null)" != rebooting ]; then
		idle=$((${idle:-0} + 1))
		[ "$idle" -lt 240 ] || exit 1 # restore.sh should have written the report
	fi
	sleep 1
done
