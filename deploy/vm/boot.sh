#!/usr/bin/env bash
# boot.sh PAYLOAD_DIR
#
# Boots the test machine (Debian on QEMU's arm64 board "virt", emulated, so no
# KVM is needed) and runs PAYLOAD_DIR/run.sh in it as root. The payload is at
# /payload inside. PAYLOAD_DIR/out and PAYLOAD_DIR/console.log come back; the
# exit code is run.sh's. Needs root, for chroot and mount namespaces.
#
#   WORK=DIR     where the parts are kept (~/.cache/fieldpost/vm)
#   TIMEOUT=SEC  how long the machine may run (1200)
set -euo pipefail
# shellcheck source=deploy/vm/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/vm/build.sh
. "$HERE/build.sh"

if [ $# -ne 1 ] || [ ! -x "$1/run.sh" ]; then die "usage: $0 PAYLOAD_DIR (with an executable run.sh)"; fi
[ "$(id -u)" = 0 ] || die "the test machine needs root"
PAYLOAD=$(realpath "$1")
build

RUN=$(mktemp -d "$WORK/run.XXXXXX")
QEMU=''
# shellcheck disable=SC2317  # called by the trap
finish() {
	[ -z "$QEMU" ] || kill "$QEMU" 2>/dev/null || true
	rm -rf "$RUN"
}
trap finish EXIT
mkdir "$RUN/payload"
cp -a "$PAYLOAD/." "$RUN/payload/"
rm -rf "$RUN/payload/out" "$RUN/payload/console.log"
truncate -s 256M "$RUN/payload.img"
tools mke2fs -q -F -t ext4 -O ^metadata_csum -L PAYLOAD -d "$RUN/payload" "$RUN/payload.img"

say "booting"
start=$SECONDS
# snapshot=on: the image is never written, every boot is clean
tools timeout "${TIMEOUT:-1200}" qemu-system-aarch64 \
	-M virt -cpu cortex-a72 -smp 2 -m 1024 -accel tcg,thread=multi,tb-size=512 \
	-display none -monitor none -no-reboot -nic none -serial "file:$RUN/console" \
	-drive "if=none,id=root,file=$IMAGE/root.img,format=raw,snapshot=on,cache=unsafe" -device virtio-blk-pci,drive=root \
	-drive "if=none,id=payload,file=$RUN/payload.img,format=raw,cache=unsafe" -device virtio-blk-pci,drive=payload \
	-device virtio-rng-pci -kernel "$IMAGE/kernel" -initrd "$IMAGE/initrd.gz" \
	-append "console=ttyAMA0 root=/dev/vda rw quiet loglevel=4 systemd.show_status=1 cryptomgr.notests" \
	</dev/null >"$RUN/qemu.log" 2>&1 &
QEMU=$!
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
