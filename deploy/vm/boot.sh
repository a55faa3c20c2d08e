#!/usr/bin/env bash
# boot.sh [-m raspi3b] [-s PORT] PAYLOAD_DIR
#
# Boots the test machine (Debian on QEMU's arm64 board "virt", or its Raspberry
# Pi 3, emulated, so no KVM is needed) and runs PAYLOAD_DIR/run.sh in it as root.
# The payload is at /payload inside. PAYLOAD_DIR/out and PAYLOAD_DIR/console.log
# come back; the exit code is run.sh's. Needs root, for chroot and mount namespaces.
#
# The machine has no network. With -s, on virt, it has one that reaches nothing, and
# 127.0.0.1:PORT of this machine leads to its port 22; run.sh configures the interface
# (10.0.2.15/24) and starts sshd.
#
#   WORK=DIR     where the parts are kept (~/.cache/fieldpost/vm)
#   TIMEOUT=SEC  how long the machine may run (2400)
set -euo pipefail
# shellcheck source=deploy/vm/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/vm/build.sh
. "$HERE/build.sh"

MACHINE=virt
network=(-nic none)
while getopts m:s: option; do
	case $option in
	m) MACHINE=$OPTARG ;;
	s) network+=(-netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$OPTARG-10.0.2.15:22"
		-device "virtio-net-pci,netdev=net,romfile=") ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -ne 1 ] || [ ! -x "$1/run.sh" ]; then die "usage: $0 [-m raspi3b] [-s PORT] PAYLOAD_DIR (with an executable run.sh)"; fi
[ "$(id -u)" = 0 ] || die "the test machine needs root"
PAYLOAD=$(realpath "$1")
build

RUN=$(mktemp -d "$WORK/run.XXXXXX")
QEMU=''
# shellcheck disable=SC2317  # called by the trap
finish() {
	[ -z "$QEMU" ] || kill -- "-$QEMU" 2>/dev/null || true
	rm -rf "$RUN"
}
trap finish EXIT
mkdir "$RUN/payload"
cp -a "$PAYLOAD/." "$RUN/payload/"
rm -rf "$RUN/payload/out" "$RUN/payload/console.log"
truncate -s 256M "$RUN/payload.img"
tools mke2fs -q -F -t ext4 -O ^metadata_csum -L PAYLOAD -d "$RUN/payload" "$RUN/payload.img"

# snapshot=on: the image is never written, every boot is clean
root="file=$IMAGE/root.img,format=raw,snapshot=on,cache=unsafe"
monitor=''
args="rw quiet loglevel=4 systemd.show_status=1 cryptomgr.notests"
case $MACHINE in
virt)
	board=(-M virt -cpu cortex-a72 -smp 2 -m 1024 -accel "tcg,thread=multi,tb-size=512" -serial "file:$RUN/console"
		-drive "if=none,id=root,$root" -device "virtio-blk-pci,drive=root"
		-device "virtio-blk-pci,drive=payload" -device virtio-rng-pci -device i6300esb -action watchdog=reset)
	args="console=ttyAMA0 root=/dev/vda $args"
	;;
raspi3b) # its four processors are faster on one thread; its console is the second UART
	board=(-M raspi3b -accel "tcg,thread=single,tb-size=512" -serial null -serial "file:$RUN/console"
		-dtb "$IMAGE/bcm2837-rpi-3-b.dtb" -drive "if=sd,$root" -device "usb-storage,drive=payload"
		-device "tmp105,id=tmp105,bus=i2c-bus.1,address=0x48"
		-device "emc1413,id=emc1413,bus=i2c-bus.1,address=0x4c" -device "dps310,bus=i2c-bus.1,address=0x77"
		-device "ds1338,bus=i2c-bus.1,address=0x68")
	args="console=ttyS1,115200 root=/dev/mmcblk0 $args"
	monitor="qom-set /machine/peripheral/tmp105 temperature 37500
qom-set /machine/peripheral/emc1413 temperature0 22000"
	;;
*) die "no machine $MACHINE: virt or raspi3b" ;;
esac

say "booting"
start=$SECONDS
set -m # a process group of its own, which finish ends
tools timeout --foreground "${TIMEOUT:-2400}" qemu-system-aarch64 "${board[@]}" "${network[@]}" -display none -monitor stdio \
	-drive "if=none,id=payload,file=$RUN/payload.img,format=raw,cache=unsafe" \
	-kernel "$IMAGE/kernel" -initrd "$IMAGE/initrd.gz" -append "$args" <<<"$monitor" >"$RUN/qemu.log" 2>&1 &
QEMU=$!
set +m
# The parts as they begin, and what fails, for those who watch.
tail --pid="$QEMU" -n +1 -F "$RUN/console" 2>/dev/null | grep -a --line-buffered -E '^(# |not ok )' &
wait "$QEMU" || { tail -3 "$RUN/qemu.log" >&2 && say "QEMU ended with an error"; }
QEMU=''
rm -rf "$PAYLOAD/out"
tools debugfs -R "rdump /out $RUN" "$RUN/payload.img" >/dev/null 2>&1 || true
cp "$RUN/console" "$PAYLOAD/console.log" 2>/dev/null || true
if [ -d "$RUN/out" ]; then
	cp -a "$RUN/out" "$PAYLOAD/out"
	cat "$PAYLOAD/out/run.log" || true
fi
[ -e "$PAYLOAD/out/rc" ] || { tail -15 "$PAYLOAD/console.log" >&2 && die "run.sh did not finish"; }
rc=$(cat "$PAYLOAD/out/rc")
say "the machine ran $((SECONDS - start)) s, booted after $(cat "$PAYLOAD/out/uptime") s, run.sh ended with $rc"
exit "$rc"
