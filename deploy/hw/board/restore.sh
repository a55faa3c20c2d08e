#!/usr/bin/env bash
# restore.sh: puts the board back as it was before prepare.sh, and writes the report. systemd
# runs it whenever the checks end: in order, killed, or after a power cut. It may be run again.
set -uo pipefail
# shellcheck source=deploy/hw/board/place.sh
. "$(dirname "$0")/place.sh"
exec 9>out/lock && flock 9
[ ! -e report.txt ] || exit 0
[ -e out/phase ] || exit 0 # prepare.sh has changed nothing
# a reboot that belongs to the checks
if [ "$(cat out/phase 2>/dev/null)" = rebooting ] && [ "$(systemctl is-system-running)" = stopping ]; then exit 0; fi

problems=0
# undo WHAT COMMAND...: goes on with the others if one fails
undo() {
	local what=$1 printed
	shift
	if printed=$("$@" 2>&1); then
		echo "- $what"
	else
		problems=$((problems + 1))
		printf -- '- NOT %s:\n%s\n' "$what" "$printed" | sed '2,$s/^/    /'
	fi
}

stop_units() {
	local unit
	thaw
	for unit in fieldpost $WATCH $WAY.socket $WAY $BROKER $RECORDER $RECORDER-boot; do systemctl stop "$unit" 2>/dev/null; done
	systemctl clean --what=fdstore fieldpost 2>/dev/null # the safe lines that systemd keeps
	rm -rf /run/systemd/system/fieldpost.service.d "/etc/systemd/system/$RECORDER-boot.service"
	systemctl disable -q "$RECORDER-boot.service" 2>/dev/null
	systemctl daemon-reload
	systemctl reset-failed 'fieldpost*' 2>/dev/null
	return 0
}

# thaw: a daemon that the checks froze cannot stop
thaw() {
	local pid
	pid=$(systemctl show -P MainPID fieldpost.service 2>/dev/null)
	[ "${pid:-0}" = 0 ] || kill -CONT "$pid" 2>/dev/null || true
}

purge() {
	DEBIAN_FRONTEND=noninteractive timeout 300 dpkg -P fieldpost </dev/null && return
	sleep 20
	return 1
}

no_package() {
	systemctl disable -q fieldpost.service 2>/dev/null
	case $(dpkg-query -W -f '${db:Status-Status}' fieldpost 2>/dev/null) in
	'' | not-installed) ;;
	*) purge || purge || purge || return ;; # somebody else may use dpkg at the moment
	esac
	own_files # an old configuration may have been there
}

own_files() {
	systemctl disable -q fieldpost.service 2>/dev/null
	tar -tf backup.tar >/dev/null && rm -rf /etc/fieldpost /var/lib/fieldpost /run/fieldpost && tar -C / -xpf backup.tar
}

lines_at_rest() { fieldpost-hw rest "${LINES_USED[@]}"; }

no_traces() {
	rm -f /run/watch.log /run/unchanged.yaml /run/good.yaml /run/broken /run/away.yaml /run/fieldpost-hw.record /run/fieldpost-hw.marks
	[ ! -d /sys/kernel/tracing/instances/fieldpost-hw ] || rmdir /sys/kernel/tracing/instances/fieldpost-hw
	rm -rf certs
}

no_unit() {
	systemctl disable -q "$CHECKS" 2>/dev/null
	rm -f "/etc/systemd/system/$CHECKS"
	systemctl daemon-reload
}

journalctl -b -u fieldpost -u "$BROKER" -o short-monotonic --no-hostname --no-pager -n 400 >out/journal.txt 2>/dev/null
{
	undo "stopped what the checks had started" stop_units
	if [ "$(fact installed)" = no ]; then
		undo "removed the package, its configuration and its data; the user fieldpost and its groups stay" no_package
	else
		undo "gave back the configuration and the data of the installed fieldpost" own_files
	fi
	undo "made inputs of ${LINES_USED[*]}, with their pulls as after power-on" lines_at_rest
	undo "removed keys and temporary files" no_traces
	undo "removed the service of the checks" no_unit
	[ "$problems" = 0 ] && echo "The board is as it was."
} >out/restored.tmp
mv out/restored.tmp out/restored
./report.sh >report.tmp && mv report.tmp report.txt
sync -f report.txt
