# shellcheck shell=bash
# PWM outputs on the kernel's PWM, the chip pwm-sim, for run.sh: exported under the unit's
# sandbox, with the files' group by the udev rule; levels, ramp, max_on and the safe level.

PWM_PERIOD=40000 # ns: 25 kHz

# pwm_files: the folder of the fan's channel
pwm_files() { echo /sys/devices/platform/pwm-sim/pwm/pwmchip*/pwm0; }

# pwm_is PERCENT: the channel runs, with that share of the period
pwm_is() {
	local dir on period enabled
	dir=$(pwm_files)
	on=$(cat "$dir/duty_cycle") period=$(cat "$dir/period") enabled=$(cat "$dir/enable")
	echo "$on ns of $period, enabled $enabled"
	[ "$on $period $enabled" = "$((PWM_PERIOD * $1 / 100)) $PWM_PERIOD 1" ]
}

# pwm_record: from here on the kernel records what is applied; pwm_applied: the times on in ns
pwm_record() {
	mkdir -p "$TRACE/instances/pwm"
	echo >"$TRACE/instances/pwm/trace"
	echo 1 >"$TRACE/instances/pwm/events/pwm/pwm_apply/enable"
}
pwm_applied() { sed -n 's/.*pwm_apply: .*duty_cycle=\([0-9]*\).*/\1/p' "$TRACE/instances/pwm/trace"; }

pwm() {
	section "PWM outputs"
	local failures=${failed:?}
	check "the kernel has a PWM chip" modprobe pwm-sim
	udevadm settle
	cp "$CONFIG" /run/before.yaml
	cat >>"$CONFIG" <<-END
		  - {name: blower, pwm: "pwm-sim:0", frequency: 25kHz, safe: 30%, initial: 50%}
		  - {name: lights, pwm: "pwm-sim:1", frequency: 1kHz, ramp: 5s, max_on: 8s}
	END
	check "the configuration is accepted" as_fieldpost fieldpost check -c "$CONFIG"
	check "the unit starts with them" timeout 100 systemctl restart "$UNIT"
	[ "$failed" != "$failures" ] || pwm_levels
	cat /run/before.yaml >"$CONFIG"
	check "it starts without these outputs" timeout 100 systemctl restart "$UNIT"
}

# pwm_levels: what the channels go through, up to a stop
pwm_levels() {
	local before steps
	check "the initial level" within 60 pwm_is 50
	same "the channel's files belong to the group gpio" "gpio 664" "$(stat -c '%G %a' "$(pwm_files)/duty_cycle")"
	for level in 0 1 40 100; do
		check "an order sets $level %" order blower "$level%" --wait 30s
		check "the kernel has it" pwm_is "$level"
	done

	pwm_record
	check "a ramp begins" order lights 100% --wait 30s
	check "max_on switches it off" within 60 message '.kind == "event" and .output == "lights" and .state == "off" and .cause == "max_on"'
	steps=$(pwm_applied | uniq)
	same "up step by step, then off at once" 0 "$(tail -n 1 <<<"$steps")"
	check "through more than ten levels" test "$(wc -l <<<"$steps")" -gt 10
	same "never down before the end" "$(head -n -1 <<<"$steps" | sort -n)" "$(head -n -1 <<<"$steps")"
	rmdir "$TRACE/instances/pwm"

	before=$(pid)
	systemctl kill -s KILL --kill-whom=main "$UNIT"
	check "the daemon is killed and started again" within 60 restarted "$before"
	check "with the initial level" within 60 pwm_is 50
	check "an order sets 100 %" order blower 100% --wait 30s
	check "the unit stops" timeout 100 systemctl stop "$UNIT"
	check "and leaves the safe level" pwm_is 30
}
