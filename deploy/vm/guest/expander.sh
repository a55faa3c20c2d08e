# shellcheck shell=bash
# Outputs on an I/O expander, a PCA9554 on i2c-sim with the kernel's driver gpio-pca953x,
# for run.sh: it loses its power, and does not answer.

# expander_is LEVELS DIRECTIONS: those bits of its two relays, lines 3 and 4: 18 is both
expander_is() {
	local level input
	level=$(($(od -An -tu1 -j 1 -N 1 "$REGS/regs_20") & 0x18)) input=$(($(od -An -tu1 -j 3 -N 1 "$REGS/regs_20") & 0x18))
	echo "levels $level, directions $input"
	[ "$level $input" = "$(($1)) $(($2))" ]
}

# power_on: the registers after power-on, and the pull-ups of the relay board
power_on() { printf '\xff\xff\x00\xff' | dd of="$REGS/regs_20" bs=1 conv=notrunc status=none; }

has_chip() { gpiodetect | grep -F "[$1]"; }

# failed_order WORDS ARGUMENT...: the order fails, and its answer has the words
failed_order() {
	local words=$1 said
	shift
	said=$(order "$@" 2>&1) && return 1
	shows "$words" "$said"
}

expander() {
	section "outputs on an I/O expander"
	local before
	power_on
	echo pca9554 0x20 >"/sys/bus/i2c/devices/i2c-$BUS/new_device"
	check "the kernel has a GPIO chip for it" within 60 has_chip "$BUS-0020"
	cp "$CONFIG" /run/before.yaml
	cat >>"$CONFIG" <<-END
		  - name: relay
		    pin: $BUS-0020:3
		    active_low: true
		  - name: siren
		    pin: $BUS-0020:4
		    active_low: true
	END
	udevadm settle
	check "its lines become outputs" fieldpost reload
	check "they are off" within 60 expander_is 0x18 0
	check "an order switches one on" order relay on --for 10m --wait 30s
	check "it is on" expander_is 0x10 0

	kill -STOP "$(pid)" # or else it may be driven again before we look
	power_on
	check "without power it is off, and nobody is told" expander_is 0x18 0x18
	kill -CONT "$(pid)"
	check "it is driven again, off" within 60 expander_is 0x18 0
	check "that is a fault" within 60 status_says '.faults[] | select(.subject == "relay" and .code == "level_lost")'
	check "and an event" within 60 message '.kind == "event" and .output == "relay" and .state == "off" and .cause == "level_lost"'
	same "the other one lost nothing" 0 "$(member fieldpost status --json | jq '[.faults[] | select(.subject == "siren")] | length')"
	check "the next order switches it on" order relay on --for 10m --wait 30s
	check "it is on again" expander_is 0x10 0
	check "the fault is over" within 60 status_says '[.faults[] | select(.subject == "relay")] == []'

	echo nak >"$REGS/fault"
	check "an order fails while the chip does not answer" failed_order "its chip does not answer, check its power and wires" siren on --for 1m --wait 30s
	check "and the output has a fault" within 60 status_says '.faults[] | select(.subject == "relay" and .code == "output_failed")'
	echo none >"$REGS/fault"
	check "when it answers again, what was on is on" within 60 status_says '[.faults[] | select(.subject == "relay")] == [] and (.outputs[] | select(.name == "relay") | .state == "on")'
	check "and what failed is off" within 60 expander_is 0x10 0

	before=$(pid)
	systemctl kill -s KILL --kill-whom=main "$UNIT"
	check "the daemon is killed and started again" within 60 restarted "$before"
	check "the relays are off" expander_is 0x18 0
	check "an order works on the line that was taken over" order relay on --for 10m --wait 30s
	check "the relay is on" expander_is 0x10 0
	check "the unit stops" timeout 100 systemctl stop "$UNIT"
	check "and leaves it off" expander_is 0x18 0
	cat /run/before.yaml >"$CONFIG"
	check "it starts without these outputs" timeout 100 systemctl start "$UNIT"
	echo 0x20 >"/sys/bus/i2c/devices/i2c-$BUS/delete_device"
}
