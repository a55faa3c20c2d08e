#!/usr/bin/env bash
# Runs the payload when the boot is over, leaves what came of it on the payload's
# disk and powers the machine off.
set -u
mkdir -p /payload
if ! mount /dev/vdb /payload || ! cd /payload; then
	echo "no payload"
	systemctl --no-block --force poweroff
	exit 1
fi
mkdir -p out
systemctl is-system-running --wait >out/state
cut -d' ' -f1 /proc/uptime >out/uptime
./run.sh >out/run.log 2>&1
echo $? >out/rc
journalctl -b -o short-monotonic >out/journal.txt 2>/dev/null
cd / && umount /payload
systemctl --no-block --force poweroff
