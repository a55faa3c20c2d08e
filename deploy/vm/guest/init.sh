#!/bin/busybox sh
# shellcheck shell=dash disable=SC2086  # $b is one word
# The initrd's init: loads the root disk's modules and hands over to systemd.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
root=/dev/vda
for word in $($b cat /proc/cmdline); do
	case $word in root=*) root=${word#root=} ;; esac
done
for m in $($b cat /mod/order); do $b insmod "/mod/$m"; done
n=0
while [ ! -b "$root" ] && [ $n -lt 1200 ]; do
	$b usleep 50000
	n=$((n + 1))
done
$b mount -t ext4 -o rw,noatime "$root" /mnt || {
	echo "no root file system"
	$b poweroff -f
}
$b umount /proc /sys
$b mount -o move /dev /mnt/dev
exec $b switch_root /mnt /usr/lib/systemd/systemd
