# shellcheck shell=bash
# The sensors of the kernel's drivers, and chips on its SPI and serial ports: on a real
# kernel, with faults, and with drivers that come and go.

I2C_DRIVERS="bme280:0x77 lm75:0x4a jc42:0x18 tmp421:0x4c emc1413:0x1c ads1015:0x4b bh1750:0x23"

# put ADDRESS FILE-OFFSET BYTES
put() { printf '%b' "$3" | dd of="$REGS/regs_$1" bs=1 seek=$(($2)) conv=notrunc status=none; }
bind() { echo "$1 $2" >"/sys/bus/i2c/devices/i2c-$BUS/new_device"; }
unbind() { echo "$1" >"/sys/bus/i2c/devices/i2c-$BUS/delete_device"; }
parameter() { echo "$2" >"/sys/module/$1"; }

# kernel_hardware: gives the chips their registers, and the kernel its drivers
kernel_hardware() {
	local driver
	# a second BME280, the same as the first
	dd if="$REGS/regs_76" of="$REGS/regs_77" conv=notrunc status=none
	put 4a 0 '\x19\x80'             # LM75: 25.5 degrees
	put 4a 6 '\x50\x00'             # and its limit
	put 18 10 '\x01\x90'            # JC42: 25 degrees
	put 18 12 '\x00\x54\x04\x00'    # made by Microchip: MCP9808
	put 4c 0 '\x15\x1e'             # TMP421: 21 degrees, 30 at the diode
	put 1c 0 '\x16\x1f'             # EMC1413: 22 degrees, 31 and 32 at the diodes
	put 1c 0x23 '\x20\x00'
	put 4b 0 '\x40\x00'             # ADS1015: half of its range of 2.048 V
	put 23 0x20 '\x01\x90'          # BH1750: 400 counts
	for driver in $I2C_DRIVERS; do bind "${driver%:*}" "${driver#*:}"; done
	modprobe w1-sim probes=3
	modprobe spi-sim
	serial co2 ./mhz19.sh
	serial dust ./pms5003.sh
	udevadm settle
}

# serial NAME COMMAND: /dev/serial-NAME, with the command at its other end. The port is held
# open, because socat ends when the last one closes it.
serial() {
	systemd-run -q --unit="serial-$1" --collect -p WorkingDirectory="$PWD" \
		socat "PTY,link=/dev/serial-$1,rawer,group=dialout,mode=0660" "EXEC:$2"
	within 20 test -e "/dev/serial-$1"
	systemd-run -q --unit="held-$1" --collect -p StandardInput=file:"/dev/serial-$1" sleep infinity
}
unplug() { systemctl stop "serial-$1" "held-$1"; }

probes_there() { [ -e /sys/bus/w1/devices/28-000000c0de02/features ]; }
reads() { check "$1 arrives" within 60 comes ".sensor == \"$2\" and ($3)"; }
raised() { check "$1" within 60 comes ".kind == \"fault\" and .sensor == \"$2\" and .code == \"$3\" and .state == \"raised\""; }
cleared() { check "$1" within 90 comes ".kind == \"fault\" and .sensor == \"$2\" and .code == \"$3\" and .state == \"cleared\""; }
# forget: what follows looks only at new messages; new FILTER: those for which it is true
forget() { SEEN=$(wc -l </run/watch.log); }
new() { tail -n "+$((SEEN + 1))" /run/watch.log | jq -Rnc "inputs | fromjson? // {} | select($1)"; }
comes() { [ -n "$(new "$1" | head -n 1)" ]; }
conversions() { cat /sys/module/w1_sim/parameters/conversions; }

kernel_sensors() {
	section "sensors of the kernel's drivers"
	kernel_hardware
	check "the kernel finds the 1-Wire probes" within 60 probes_there
	udevadm settle
	same "udev has the kernel refuse a probe's value after power-on" "1 1 1" "$(cat /sys/bus/w1/devices/28-*/features | xargs)"
	same "and gives the bulk read to fieldpost" "fieldpost 664" "$(stat -c '%G %a' /sys/bus/w1/devices/w1_bus_master1/therm_bulk_read)"
	cp "$CONFIG" /run/without.yaml
	kernel_scan
	{ sed '/^outputs:/,$d' /run/without.yaml && sed "s/@BUS@/$BUS/" kernel.yaml && sed -n '/^outputs:/,$p' /run/without.yaml; } >"$CONFIG"
	check "the configuration is accepted" as_fieldpost fieldpost check -c "$CONFIG"
	# a new mount namespace: the bus was not there before
	forget
	check "the unit starts with them" timeout 100 systemctl restart "$UNIT"
	kernel_readings
	kernel_w1
	kernel_faults
	kernel_drivers
	cp /run/without.yaml "$CONFIG"
	check "the unit starts without them" timeout 100 systemctl restart "$UNIT"
	unplug co2
	unplug dust
}

# kernel_scan: it names what is there, and makes a configuration that reads all of it
kernel_scan() {
	local found=/run/scan.txt yaml=/run/scan.yaml name missing=''
	systemctl stop "$UNIT"
	check "scan runs as fieldpost" as_fieldpost_to $found fieldpost scan
	for name in lm75 jc42 tmp421 emc1413 bme280 ads1015 bh1750 maxim_thermocouple 28-000000c0de00 28-000000c0de01 28-000000c0de02 spidev0.1; do
		grep -q -F "$name" $found || missing+=" $name"
	done
	same "scan lists the kernel's sensors, probes and SPI devices" '' "$missing"
	check "scan says which driver holds an address" grep -E '^  0x4a .*lm75' $found
	check "scan says which line of config.txt loads one" grep -F 'dtoverlay=' $found
	cp $found out/scan.txt
	check "scan --yaml makes a configuration" as_fieldpost_to $yaml fieldpost scan --yaml
	cp $yaml out/scan.yaml
	sed '/^  endpoint:/s/:.*/: 127.0.0.1:8883/' $yaml >/etc/fieldpost/scan.yaml
	check "check accepts it" as_fieldpost fieldpost check -c /etc/fieldpost/scan.yaml
	missing=''
	for name in $(sed -n 's/^ *- *{*name: *\([^,} ]*\).*/\1/p' $yaml | tr -d '"'); do
		as_fieldpost fieldpost read -c /etc/fieldpost/scan.yaml "$name" >>out/scan-read.txt 2>&1 || missing+=" $name"
	done
	same "and read reads each of its sensors" '' "$missing"
	same "each probe is there once" 3 "$(grep -c 28-000000c0de0. $yaml | awk '{print $1 / 2}')"
	check "read --watch goes on" watches /etc/fieldpost/scan.yaml lm75
	rm /etc/fieldpost/scan.yaml
}
# watches CONFIGURATION SENSOR: two readings, a line each, until it is told to stop
watches() {
	local lines
	lines=$(as_fieldpost timeout --preserve-status 20 fieldpost read -c "$1" --watch --every 100ms "$2" | head -n 2)
	[ "$(grep -c 'temperature 25.5 °C' <<<"$lines")" = 2 ] || shows "two lines" "$lines"
}
as_fieldpost_to() {
	local file=$1
	shift
	as_fieldpost "$@" >"$file"
}

kernel_readings() {
	reads "hwmon, lm75: its temperature" k-lm75 '.temperature == 25.5'
	reads "hwmon, jc42: its temperature" k-jc42 '.temperature == 25'
	reads "hwmon, tmp421: both temperatures" k-tmp421 '.temperature_1 == 21 and .temperature_2 == 30'
	reads "hwmon, emc1413: all three temperatures" k-emc1413 '.temperature_1 == 22 and .temperature_2 == 31 and .temperature_3 == 32'
	reads "iio, bme280: temperature, humidity and pressure" k-air '.temperature > 25 and .temperature < 25.2 and .pressure > 100600 and .pressure < 100700 and .humidity > 50 and .humidity < 60'
	reads "iio, ads1015: a voltage" k-adc '.voltage == 1.024'
	reads "iio, bh1750: the light" k-light '.illuminance > 333 and .illuminance < 334'
	reads "iio on SPI, max31855: both temperatures" k-oven '.temperature == 100.75'
	reads "w1_therm, three DS18B20" probe-0 '.temperature == 21'
	reads "the second" probe-1 '.temperature == 22'
	reads "the third" probe-2 '.temperature == 23'
	reads "a MAX31855 on /dev/spidev0.1, by fieldpost's driver" kiln '.temperature == 100.75 and .temperature_internal == 25.0625'
	reads "an MH-Z19 on a serial port" co2 '.co2 == 812'
	reads "a PMS5003 on a serial port" dust '.pm2_5 == 12'
}

# kernel_w1: all probes convert at once; a probe without supply has no value
kernel_w1() {
	section "1-Wire: one conversion for all, and the value after power-on"
	forget
	CONVERTED=$(conversions)
	check "probes that are read together convert together" within 120 convert_together
	echo "# $(convert_together)"
	parameter w1_sim/parameters/fault 0,2,0
	raised "a probe that does not convert is a fault" probe-1 no_answer
	same "and 85 degrees never arrive" '' "$(new '.temperature == 85')"
	parameter w1_sim/parameters/fault 0,0,0
	cleared "it converts again" probe-1 no_answer
	parameter w1_sim/parameters/fault 0,0,1
	raised "a probe that is unplugged is a fault" probe-2 no_answer
	forget
	reads "the others are read on" probe-0 '.temperature == 21'
	parameter w1_sim/parameters/fault 0,0,0
	parameter w1_sim/parameters/sixteenths 336,352,376
	reads "it is plugged in again" probe-2 '.temperature == 23.5'
}
# convert_together: ten readings of the three probes and more have come since CONVERTED, and at
# least two of them for each conversion. It is waited for, because a conversion at either end
# may not have its readings yet.
convert_together() {
	local now readings
	now=$(($(conversions) - CONVERTED))
	readings=$(new '.temperature and (.sensor | startswith("probe-"))' | wc -l)
	echo "$readings readings of three probes, $now conversions"
	[ "$readings" -ge 10 ] && [ $((2 * now)) -le "$readings" ]
}

kernel_faults() {
	section "a chip that does not acknowledge, a stuck bus, an exchanged chip"
	forget
	echo 0x4a >"$REGS/deaf"
	raised "no acknowledge from a chip with a kernel driver" k-lm75 no_answer
	echo 0x76 >"$REGS/deaf"
	raised "no acknowledge from a chip of fieldpost's" air no_answer
	cleared "the first one answers again" k-lm75 no_answer
	echo 0 >"$REGS/deaf"
	cleared "so does the other" air no_answer
	forget
	echo timeout >"$REGS/fault"
	check "a stuck bus is a fault of the bus" within 60 comes ".kind == \"fault\" and .code == \"bus_stuck\" and .state == \"raised\""
	forget
	reads "a probe is read meanwhile" probe-0 '.temperature == 21'
	reads "and a serial port" co2 '.co2 == 812'
	check "the unit is still active" systemctl is-active "$UNIT"
	echo none >"$REGS/fault"
	check "the bus works again" within 90 comes ".kind == \"fault\" and .code == \"bus_stuck\" and .state == \"cleared\""
	reads "and its chips are read" air '.temperature > 25'
	forget
	put 76 0xf5 '\x00' # it has lost its settings
	put 76 0xd0 '\x58'
	raised "an exchanged chip (a BMP280 for a BME280) is a fault" air wrong_answer
	put 76 0xd0 '\x60'
	cleared "the right one is back" air wrong_answer
}

kernel_drivers() {
	section "drivers of the kernel's come and go"
	forget
	unbind 0x4a
	raised "the driver of an hwmon device goes" k-lm75 absent
	bind lm75 0x4a
	cleared "it comes back, under another number or not" k-lm75 absent
	rmmod w1_sim
	raised "the 1-Wire bus goes" probe-0 absent
	modprobe w1-sim probes=3
	check "it comes back" within 60 probes_there
	cleared "and its probes are read" probe-0 absent
	unplug dust
	raised "a serial adapter is unplugged" dust absent
	serial dust ./pms5003.sh
	cleared "it is plugged in again" dust absent
	forget
	bind lm75 0x48
	raised "a kernel driver takes the address of fieldpost's chip" soil address_owned
	unbind 0x48
	cleared "and gives it back" soil address_owned
}
