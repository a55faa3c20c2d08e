#!/usr/bin/env bash
# bench-hw: makes a GPIO chip labelled bench-gpio with 28 lines GPIO0..GPIO27, and
# an I2C bus with a BME280 at 0x76 and a TMP102 at 0x48. Prints shell assignments:
# CHIP=gpiochipN LINES=/sys/... BUS=N REGS=/sys/...
#
#   drive an input:    echo pull-up >$LINES/sim_gpio17/pull     (or pull-down)
#   read an output:    cat $LINES/sim_gpio22/value
#   set registers:     printf '\x60' | dd of=$REGS/regs_76 bs=1 seek=$((0xd0)) conv=notrunc
#   make the bus fail: echo nak >$REGS/fault                    (none, nak, timeout, eio)
#   silence one chip:  echo 0x76 >$REGS/deaf                    (0: none)
set -euo pipefail
BUS=1
while [ -e "/sys/bus/i2c/devices/i2c-$BUS" ]; do BUS=$((BUS + 10)); done
REGS=/sys/devices/platform/i2c-sim
# the others are for kernel.sh
modprobe i2c-sim "bus=$BUS" addr=0x76,0x48,0x77,0x4a,0x18,0x4c,0x1c,0x4b,0x23 \
	regsize=1,2,1,2,2,1,1,2,1 pairs=1,0,1,0,0,0,0,0,0
modprobe gpio-sim
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
sim=/sys/kernel/config/gpio-sim/bench
mkdir -p $sim/bank0
echo bench-gpio >$sim/bank0/label
echo 28 >$sim/bank0/num_lines
for i in {0..27}; do
	mkdir "$sim/bank0/line$i"
	echo "GPIO$i" >"$sim/bank0/line$i/name"
done
echo 1 >$sim/live
read -r device <$sim/dev_name
read -r CHIP <$sim/bank0/chip_name
udevadm settle

# put CHIP FILE-OFFSET BYTES
put() { printf '%b' "$3" | dd of="$REGS/$1" bs=1 seek=$(($2)) conv=notrunc status=none; }
# a BME280's identity and calibration, and one raw reading (25.08 C, 100653 Pa, 55 %)
put regs_76 0xd0 '\x60'
put regs_76 0x88 '\x70\x6b\x43\x67\x18\xfc\x7d\x8e\x43\xd6\xd0\x0b\x27\x0b\x8c\x00\xf9\xff\x8c\x3c\xf8\xc6\x70\x17\x00\x4b'
put regs_76 0xe1 '\x72\x01\x00\x14\x03\x00\x1e'
put regs_76 0xf7 '\x65\x5a\xc0\x7e\xed\x00\x77\x00'
# a TMP102 at 23.5 C in extended mode, its configuration and limits after power-on;
# its conversion is always over, and it knows itself by two bits
put regs_48 0 '\x0b\xc1\x60\xa0\x4b\x00\x50\x00'
put ones_48 2 '\xe0\x00'
echo "CHIP=$CHIP LINES=/sys/devices/platform/$device/$CHIP BUS=$BUS REGS=$REGS"
