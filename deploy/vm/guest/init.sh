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
# What the package overlayroot does for Raspberry Pi OS: the root is read-only, and changes
# are in memory.
if [ -e /mnt/etc/bench-overlay ]; then
	rw=/media/root-rw ro=/media/root-ro
	$b mkdir -p $rw $ro
	$b mount -o move /mnt $ro
	$b mount -o remount,ro $ro
	$b mount -t tmpfs tmpfs $rw
	$b mkdir $rw/overlay $rw/overlay-workdir
	$b mount -t overlay -o lowerdir=$ro,upperdir=$rw/overlay,workdir=$rw/overlay-workdir overlayroot /mnt
	$b mkdir -p /mnt$rw /mnt$ro
	$b mount -o move $rw /mnt$rw
	$b mount -o move $ro /mnt$ro
fi
$b umount /proc /sys
$b mount -o move /dev /mnt/dev
exec $b switch_root /mnt /usr/lib/systemd/systemd
