#!/usr/bin/env bash
# Runs the payload when the boot is over, leaves what came of it on the payload's
# disk and powers the machine off; or reboots it, where run.sh ends with 100.
set -u
mkdir -p /payload
# the last disk: of the virtual board, or a Pi's on USB, which takes a while
for _ in {1..300}; do
	for disk in /dev/vdb /dev/sda; do
		[ ! -b $disk ] || break 2
	done
	sleep 0.1
done
if ! { mountpoint -q /payload || mount "$disk" /payload; } || ! cd /payload; then
	echo "no payload"
	systemctl --no-block --force poweroff
	exit 1
fi
mkdir -p out
systemctl is-system-running --wait >out/state
cut -d' ' -f1 /proc/uptime >out/uptime
./run.sh >>out/run.log 2>&1
rc=$?
journalctl -b -o short-monotonic >>out/journal.txt 2>/dev/null
end=reboot
if [ $rc != 100 ]; then
	echo $rc >out/rc
	end=poweroff
fi
cd / && umount /payload
systemctl --no-block --force $end
