package config

// tmp is a sensor with one more key, on line 9.
func tmp(key string) string {
	return "sensors:\n- name: air\n  chip: tmp102\n  bus: i2c-1\n  " + key + "\n"
}

// fanWith is a PWM output with one more key, on line 8.
func fanWith(key string) string {
	return "outputs:\n- name: fan\n  pwm: pwmchip0:1\n  " + key + "\n  frequency: 25kHz\n"
}

// relayWith is an output on a line with one more key, on line 8.
func relayWith(key string) string { return "outputs:\n- name: pump\n  pin: GPIO17\n  " + key + "\n" }

// refusedPWM are mistakes with PWM outputs.
var refusedPWM = []refusal{
	{name: "line and channel", text: fanWith("pin: GPIO18"), want: `fieldpost.yaml:7: outputs[0].pwm: does not go with pin: an output is a line or a PWM channel (got pwmchip0:1)`},
	{name: "no channel", text: fanWith("safe: off") + "- name: b\n  pwm: pwmchip0\n  frequency: 1kHz\n", want: `fieldpost.yaml:11: outputs[1].pwm: PWM channel "pwmchip0": want chip:channel, such as pwmchip0:1 or fe20c000.pwm:1 (got pwmchip0)`},
	{name: "no frequency", text: "outputs:\n- name: fan\n  pwm: pwmchip0:1\n", want: `fieldpost.yaml:6: outputs[0].frequency: is missing: a fan with four wires wants 25kHz, a lamp some 500Hz`},
	{name: "frequency without unit", text: "outputs:\n- name: fan\n  pwm: pwmchip0:1\n  frequency: 25000\n", want: `fieldpost.yaml:8: outputs[0].frequency: want a frequency with its unit, such as 25kHz or 100Hz (got 25000)`},
	{name: "frequency too high", text: "outputs:\n- name: fan\n  pwm: pwmchip0:1\n  frequency: 1000kHz\n", want: `fieldpost.yaml:8: outputs[0].frequency: want 1Hz to 100kHz (got 1000kHz)`},
	{name: "safe out of range", text: fanWith("safe: 120%"), want: `fieldpost.yaml:8: outputs[0].safe: want off, on or keep, or for a PWM output a percentage from 0% to 100%, such as 40% (got 120%)`},
	{name: "safe without unit", text: fanWith("safe: 20"), want: `fieldpost.yaml:8: outputs[0].safe: want off, on or keep, or for a PWM output a percentage from 0% to 100%, such as 40% (got 20)`},
	{name: "initial out of range", text: fanWith("initial: -1%"), want: `fieldpost.yaml:8: outputs[0].initial: want off, on, last or keep, or for a PWM output a percentage from 0% to 100%, such as 40% (got -1%)`},
	{name: "drive of a channel", text: fanWith("drive: open-drain"), want: `fieldpost.yaml:8: outputs[0].drive: does not go with pwm, whose chip decides how it drives`},
	{name: "max_on of a safe level", text: fanWith("safe: 20%") + "  max_on: 5m\n", want: `fieldpost.yaml:10: outputs[0].max_on: makes no sense with safe: 20%, which keeps the output on (got 5m)`},
	{name: "ramp of a line", text: relayWith("ramp: 5s"), want: `fieldpost.yaml:8: outputs[0].ramp: needs pwm: a line is only on or off (got 5s)`},
	{name: "frequency of a line", text: relayWith("frequency: 1kHz"), want: `fieldpost.yaml:8: outputs[0].frequency: needs pwm: a line is only on or off (got 1kHz)`},
	{name: "safe level of a line", text: relayWith("safe: 40%"), want: `fieldpost.yaml:8: outputs[0].safe: needs pwm: a line is only on or off (got 40%)`},
	{name: "initial level of a line", text: relayWith("initial: 40%"), want: `fieldpost.yaml:8: outputs[0].initial: needs pwm: a line is only on or off (got 40%)`},
	{name: "ramp too long", text: fanWith("ramp: 2h"), want: `fieldpost.yaml:8: outputs[0].ramp: want 0s to 1h (got 2h)`},
	{name: "channel twice", text: fanWith("safe: off") + "- name: b\n  pwm: pwmchip0:1\n  frequency: 1kHz\n", want: `fieldpost.yaml:11: outputs[1].pwm: is already the channel of outputs[0] on line 6 (got pwmchip0:1)`},
	{name: "neither", text: "outputs:\n- name: fan\n", want: `fieldpost.yaml:6: outputs[0].pin: is missing`},
}

// refusedKeys are values of sensors that cannot be.
var refusedKeys = []refusal{
	{
		name: "octal address",
		text: tmp("address: 076"),
		want: `fieldpost.yaml:9: sensors[0].address: has a leading zero, which other programs read as octal; write it without the zero, or as hexadecimal with 0x (got 076)`,
	},
	{
		name: "quoted octal address",
		text: tmp("address: '076'"),
		want: `fieldpost.yaml:9: sensors[0].address: has a leading zero, which other programs read as octal; write it without the zero, or as hexadecimal with 0x (got 076)`,
	},
	{
		name: "octal pin",
		text: "outputs:\n- name: pump\n  pin: 017\n",
		want: `fieldpost.yaml:7: outputs[0].pin: has a leading zero, which other programs read as octal; write 17 (got 017)`,
	},
	{
		name: "address too high",
		text: tmp("address: 0x90"),
		want: `fieldpost.yaml:9: sensors[0].address: want 0x48 to 0x4b; 0x90 is 0x48 followed by the direction bit (got 0x90)`,
	},
	{
		name: "address too high for any chip",
		text: "sensors:\n- name: air\n  address: 0x90\n",
		want: "fieldpost.yaml:6: sensors[0].chip: is missing\nfieldpost.yaml:7: sensors[0].address: want 0x03 to 0x77 (got 0x90)",
	},
	{
		name: "address beyond 16 bits",
		text: tmp("address: 0x12345"),
		want: `fieldpost.yaml:9: sensors[0].address: is too large a number (got 0x12345)`,
	},
	{
		name: "negative address",
		text: tmp("address: -1"),
		want: `fieldpost.yaml:9: sensors[0].address: want a whole number, such as 118 or 0x76 (got -1)`,
	},
	{
		name: "address of another chip",
		text: "sensors:\n- name: air\n  chip: bme280\n  bus: i2c-1\n  address: 0x48\n",
		want: `fieldpost.yaml:9: sensors[0].address: want 0x76 or 0x77 (got 0x48)`,
	},
	{
		name: "too often",
		text: tmp("every: 1ms"),
		want: `fieldpost.yaml:9: sensors[0].every: want 10ms to 24h (got 1ms)`,
	},
	{
		name: "too seldom",
		text: "sensors:\n- {name: air, chip: sgp30, bus: i2c-1, every: 10s}\n",
		want: `fieldpost.yaml:6: sensors[0].every: chip sgp30 must be read at least every 1s, or its values are wrong; a filter delta sends fewer readings (got 10s)`,
	},
	{
		name: "registers of one value",
		text: "sensors:\n- {name: m, chip: modbus, device: ttyS0, registers: 3}\n",
		want: `fieldpost.yaml:6: sensors[0].registers: want a list, each entry after "- ", not a single value`,
	},
	{
		name: "no registers",
		text: "sensors:\n- {name: m, chip: modbus, device: ttyS0}\n",
		want: `fieldpost.yaml:6: sensors[0].registers: is missing; chip modbus needs it`,
	},
	{
		name: "empty registers",
		text: "sensors:\n- {name: m, chip: modbus, device: ttyS0, registers: []}\n",
		want: `fieldpost.yaml:6: sensors[0].registers: want 1 to 24 entries, not 0`,
	},
	{
		name: "registers of another chip",
		text: "sensors:\n- {name: m, chip: sdm120, device: ttyS0, registers: [{name: voltage, register: 0}]}\n",
		want: `fieldpost.yaml:6: sensors[0].registers: chip sdm120 does not have this key; it has every, device, baud, parity, unit_id`,
	},
	{
		name: "mistakes in registers",
		text: "sensors:\n- name: m\n  chip: modbus\n  device: ttyS0\n  baud: 9700\n  parity: mark\n  unit_id: 0\n  registers:\n  - {name: voltage}\n  - {name: Flow, register: 1}\n  - {name: flow, register: 2}\n  - {name: power, register: 3, unit: kW}\n  - {name: energy_2, register: 65535, type: u32}\n  - {name: power, register: 4, typ: u32}\n  - {name: voltage_1, register: 5, function: 2, type: f64, words: middle, scale: 0}\n  - 7\n  - {name: time, register: 7}\n  - {name: current, register: 0x1F4, name: x}\n",
		want: `fieldpost.yaml:9: sensors[0].baud: want 1200, 2400, 4800, 9600, 19200, 38400, 57600 or 115200 (got 9700)
fieldpost.yaml:10: sensors[0].parity: want none, even or odd (got mark)
fieldpost.yaml:11: sensors[0].unit_id: want 1 to 247 (got 0)
fieldpost.yaml:13: sensors[0].registers[0].register: is missing
fieldpost.yaml:14: sensors[0].registers[1].name: want a name of at most 40 of the characters a-z 0-9 _, the first one a letter (got Flow)
fieldpost.yaml:15: sensors[0].registers[2].unit: is missing: want the UCUM code of flow, such as Cel or L/min, or "1" for a plain number
fieldpost.yaml:16: sensors[0].registers[3].unit: power is in W with all chips, because receivers know the unit by the name: change scale, or choose another name (got kW)
fieldpost.yaml:17: sensors[0].registers[4].register: is the last register, and u32 needs two (got 65535)
fieldpost.yaml:18: sensors[0].registers[5]: unknown key "typ", did you mean "type"?
fieldpost.yaml:19: sensors[0].registers[6].function: want 4, input registers, or 3, holding registers (got 2)
fieldpost.yaml:19: sensors[0].registers[6].type: want u16, i16, u32, i32 or f32 (got f64)
fieldpost.yaml:19: sensors[0].registers[6].words: want high or low (got middle)
fieldpost.yaml:19: sensors[0].registers[6].scale: makes every value 0 (got 0)
fieldpost.yaml:20: sensors[0].registers[7]: want keys with values, not a single value
fieldpost.yaml:21: sensors[0].registers[8].name: is a key that messages have already; choose another name (got time)
fieldpost.yaml:22: sensors[0].registers[9]: duplicate key "name", first on line 22`,
	},
	{
		name: "a unit twice on a port",
		text: "sensors:\n- {name: a, chip: sdm120, device: ttyS0, unit_id: 3}\n- {name: b, chip: sdm230, device: ttyS0, unit_id: 3}\n",
		want: `fieldpost.yaml:7: sensors[1].unit_id: unit 3 on ttyS0 is already used by sensors[0] on line 6`,
	},
	{
		name: "two speeds on a port",
		text: "sensors:\n- {name: a, chip: sdm120, device: ttyS0, unit_id: 3}\n- {name: b, chip: sdm630, device: ttyS0, unit_id: 4}\n",
		want: `fieldpost.yaml:7: sensors[1].device: ttyS0 has 9600 baud, parity none here and 2400 baud, parity none for sensors[0] on line 6; all units on a port need the same`,
	},
	{
		name: "a meter beside another chip",
		text: "sensors:\n- {name: a, chip: mhz19, device: ttyS0}\n- {name: b, chip: sdm630, device: ttyS0}\n",
		want: `fieldpost.yaml:7: sensors[1].device: ttyS0 is already used by sensors[0] on line 6, and only Modbus units can share a port`,
	},
	{
		name: "bus without its name",
		text: "sensors:\n- {name: a, chip: tmp102, bus: 1}\n",
		want: `fieldpost.yaml:6: sensors[0].bus: want the bus's name: "i2c-1" (got 1)`,
	},
	{
		name: "bus by its device",
		text: "sensors:\n- {name: a, chip: tmp102, bus: /dev/i2c-1}\n",
		want: `fieldpost.yaml:6: sensors[0].bus: want the bus's name: "i2c-1" (got /dev/i2c-1)`,
	},
	{
		name: "no bus",
		text: "sensors:\n- {name: a, chip: tmp102, bus: spi0}\n",
		want: `fieldpost.yaml:6: sensors[0].bus: want the name of an I2C bus, such as i2c-1, a link to it such as /dev/i2c-greenhouse, or its adapter's name, such as CH341 (got spi0)`,
	},
	{
		name: "zone with a path",
		text: "sensors:\n- {name: a, chip: thermal, zone: ../../etc}\n",
		want: `fieldpost.yaml:6: sensors[0].zone: want a thermal zone's type, number or name, such as cpu-thermal, 0 or thermal_zone0 (got ../../etc)`,
	},
	{
		name: "pull",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, pull: sideways}\n",
		want: `fieldpost.yaml:6: sensors[0].pull: want up, down or none (got sideways)`,
	},
	{
		name: "active low",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, active_low: yes}\n",
		want: `fieldpost.yaml:6: sensors[0].active_low: want on or off, or true or false (got yes)`,
	},
	{
		name: "debounce",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, debounce: 1h}\n",
		want: `fieldpost.yaml:6: sensors[0].debounce: want 0s to 1m (got 1h)`,
	},
	{
		name: "rate of edges",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 5000/s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: want 1/s to 1000/s (got 5000/s)`,
	},
	{
		name: "no edges",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 0/s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: want 1/s to 1000/s (got 0/s)`,
	},
	{
		name: "bare rate of edges",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 20}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: write its unit, changes a second: 20/s (got 20)`,
	},
	{
		name: "rate of edges in hertz",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 20 Hz}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: write it as changes a second: 20/s (got 20 Hz)`,
	},
	{
		name: "rate of edges with a space",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 20 / s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: write it as changes a second: 20/s (got 20 / s)`,
	},
	{
		name: "rate of edges a minute",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 30/m}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: want a whole number of changes a second, such as 40/s (got 30/m)`,
	},
	{
		name: "negative rate of edges",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: -1/s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: want a whole number of changes a second, such as 40/s (got -1/s)`,
	},
	{
		name: "octal rate of edges",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 020/s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: has a leading zero, which other programs read as octal; write it without (got 020/s)`,
	},
	{
		name: "huge rate of edges",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17, max_edges: 99999999999999999999/s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: is too large a number (got 99999999999999999999/s)`,
	},
	{
		name: "rate of edges of a chip without",
		text: "sensors:\n- {name: a, chip: bme280, bus: i2c-1, max_edges: 20/s}\n",
		want: `fieldpost.yaml:6: sensors[0].max_edges: chip bme280 does not have this key; it has every, bus, address`,
	},
}

// refusedEntries lack something, or do not fit their chip.
var refusedEntries = []refusal{
	{
		name: "unknown chip",
		text: "sensors:\n- {name: a, chip: bme281, bus: i2c-1}\n",
		want: `fieldpost.yaml:6: sensors[0].chip: unknown chip "bme281"; fieldpost knows {chips}`,
	},
	{
		name: "debounce without a unit",
		text: "sensors:\n- {name: a, chip: gpio, pin: 7, debounce: 200}\n- {name: b, chip: gpio, pin: 8, debounce: 20}\n- {name: c, chip: thermal, every: 0.5}\n- {name: d, chip: thermal, every: 100000000}\n",
		want: `fieldpost.yaml:6: sensors[0].debounce: write a unit: 200ms for milliseconds (got 200)
fieldpost.yaml:7: sensors[1].debounce: write a unit: 20ms for milliseconds, 20s for seconds (got 20)
fieldpost.yaml:8: sensors[2].every: write a unit: 0.5s for seconds, 0.5m for minutes, 0.5h for hours (got 0.5)
fieldpost.yaml:9: sensors[3].every: write a unit: 100000000ms for milliseconds, 100000000s for seconds, 100000000m for minutes, 100000000h for hours (got 100000000)`,
	},
	{
		name: "address of a datasheet, and without 0x",
		text: "sensors:\n- {name: a, chip: bme280, bus: i2c-1, address: 0xEC}\n- {name: b, chip: tmp102, bus: i2c-1, address: 0x91}\n- {name: c, chip: bme280, bus: i2c-1, address: 76}\n- {name: d, chip: bme280, bus: i2c-1, address: 0x50}\n",
		want: `fieldpost.yaml:6: sensors[0].address: want 0x76 or 0x77; 0xec is 0x76 followed by the direction bit (got 0xEC)
fieldpost.yaml:7: sensors[1].address: want 0x48 to 0x4b; 0x91 is 0x48 followed by the direction bit (got 0x91)
fieldpost.yaml:8: sensors[2].address: want 0x76 or 0x77; write 0x76, with 0x (got 76)
fieldpost.yaml:9: sensors[3].address: want 0x76 or 0x77 (got 0x50)`,
	},
	{
		name: "path for a shell",
		text: "spool: {dir: ~/spool}\n",
		want: `fieldpost.yaml:5: spool.dir: want the full path: ~, $ and % are not expanded (got ~/spool)`,
	},
	{
		name: "path with a variable",
		text: "spool: {dir: $HOME/spool}\n",
		want: `fieldpost.yaml:5: spool.dir: want the full path: ~, $ and % are not expanded (got $HOME/spool)`,
	},
	{
		name: "chip of another number",
		text: "sensors:\n- {name: a, chip: bme690, bus: i2c-1}\n- {name: b, chip: ds18b30}\n- {name: c, chip: lm35}\n",
		want: `fieldpost.yaml:6: sensors[0].chip: unknown chip "bme690"; fieldpost knows {chips}
fieldpost.yaml:7: sensors[1].chip: unknown chip "ds18b30"; fieldpost knows {chips}
fieldpost.yaml:8: sensors[2].chip: unknown chip "lm35"; fieldpost knows {chips}`,
	},
	{
		name: "chip with a slip",
		text: "sensors:\n- {name: a, chip: BME-280, bus: i2c-1}\n- {name: b, chip: lm75c, bus: i2c-1}\n- {name: c, chip: themal}\n",
		want: `fieldpost.yaml:6: sensors[0].chip: unknown chip "BME-280", did you mean "bme280"?
fieldpost.yaml:7: sensors[1].chip: unknown chip "lm75c", did you mean "lm75"?
fieldpost.yaml:8: sensors[2].chip: unknown chip "themal", did you mean "thermal"?`,
	},
	{
		name: "missing chip",
		text: "sensors:\n- {name: a}\n",
		want: `fieldpost.yaml:6: sensors[0].chip: is missing`,
	},
	{
		name: "missing name",
		text: "sensors:\n- {chip: tmp102, bus: i2c-1}\n",
		want: `fieldpost.yaml:6: sensors[0].name: is missing`,
	},
	{
		name: "missing bus",
		text: "sensors:\n- {name: a, chip: bme280}\n",
		want: `fieldpost.yaml:6: sensors[0].bus: is missing; chip bme280 needs it`,
	},
	{
		name: "missing pin",
		text: "outputs:\n- {name: a}\n",
		want: `fieldpost.yaml:6: outputs[0].pin: is missing`,
	},
}

// refusedPairs are entries that do not go together, and levels and times of outputs.
var refusedPairs = []refusal{
	{
		name: "reserved name",
		text: "outputs:\n- {name: fieldpost, pin: GPIO27}\n",
		want: `fieldpost.yaml:6: outputs[0].name: is reserved for fieldpost; choose another name (got fieldpost)`,
	},
	{
		name: "name with a space",
		text: "outputs:\n- {name: water pump, pin: GPIO27}\n",
		want: `fieldpost.yaml:6: outputs[0].name: want 1 to 64 of the characters A-Z a-z 0-9 _ - (got water pump)`,
	},
	{
		name: "name twice",
		text: "sensors:\n- {name: a, chip: thermal}\noutputs:\n- {name: a, pin: GPIO27}\n",
		want: `fieldpost.yaml:8: outputs[0].name: is already the name of sensors[0] on line 6 (got a)`,
	},
	{
		name: "pin twice",
		text: "sensors:\n- {name: a, chip: gpio, pin: GPIO17}\noutputs:\n- {name: b, pin: 17}\n",
		want: `fieldpost.yaml:8: outputs[0].pin: is the same line as GPIO17 of "a" on line 6 (got 17)`,
	},
	{
		name: "pin of a counter twice",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17}\n- {name: b, chip: frequency, pin: P1_11}\n",
		want: `fieldpost.yaml:7: sensors[1].pin: is the same line as GPIO17 of "a" on line 6 (got P1_11)`,
	},
	{
		name: "trigger is an output's",
		text: "sensors:\n- {name: a, chip: ultrasonic, trigger: GPIO27, echo: GPIO24}\noutputs:\n- {name: b, pin: GPIO27}\n",
		want: `fieldpost.yaml:8: outputs[0].pin: is the same line as GPIO27 of "a" on line 6 (got GPIO27)`,
	},
	{
		name: "trigger is the echo",
		text: "sensors:\n- {name: a, chip: ultrasonic, trigger: GPIO24, echo: 24}\n",
		want: `fieldpost.yaml:6: sensors[0].echo: is the same line as GPIO24 of "a" on line 6 (got 24)`,
	},
	{
		name: "ultrasonic without lines",
		text: "sensors:\n- {name: a, chip: ultrasonic, echo: GPIO24}\n",
		want: `fieldpost.yaml:6: sensors[0].trigger: is missing; chip ultrasonic needs it`,
	},
	{
		name: "counter of what is not known",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17, measures: milk}\n",
		want: `fieldpost.yaml:6: sensors[0].measures: want pulses, water, gas, energy, rain or wind (got milk)`,
	},
	{
		name: "per_pulse that is no number",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17, measures: water, per_pulse: 10 L}\n",
		want: `fieldpost.yaml:6: sensors[0].per_pulse: want a number such as 10 or 0.2794, or a fraction such as 1/800 (got 10 L)`,
	},
	{
		name: "per_pulse of nothing",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17, measures: water, per_pulse: 0}\n",
		want: `fieldpost.yaml:6: sensors[0].per_pulse: want 1e-09 to 1e+09 (got 0)`,
	},
	{
		name: "per_pulse of pulses",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17, per_pulse: 10}\n",
		want: `fieldpost.yaml:6: sensors[0].per_pulse: is for what the pulses stand for; say it with measures: water, gas, energy, rain, wind`,
	},
	{
		name: "start below nothing",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17, measures: water, start: -5}\n",
		want: `fieldpost.yaml:6: sensors[0].start: want 0 to 1e+12 (got -5)`,
	},
	{
		name: "max_rate without its unit",
		text: "sensors:\n- {name: a, chip: counter, pin: GPIO17, max_rate: 10}\n",
		want: `fieldpost.yaml:6: sensors[0].max_rate: write its unit, pulses a second: 10/s (got 10)`,
	},
	{
		name: "idle of a frequency too long",
		text: "sensors:\n- {name: a, chip: frequency, pin: GPIO17, idle: 5m}\n",
		want: `fieldpost.yaml:6: sensors[0].idle: want 10ms to 30s (got 5m)`,
	},
	{
		name: "pin of the header twice",
		text: "outputs:\n- {name: a, pin: P1_11}\n- {name: b, pin: GPIO17}\n",
		want: `fieldpost.yaml:7: outputs[1].pin: is the same line as P1_11 of "a" on line 6 (got GPIO17)`,
	},
	{
		name: "place twice",
		text: "sensors:\n- {name: a, chip: bme280, bus: i2c-1}\n- {name: b, chip: bmp280, bus: i2c-1, address: 0x76}\n",
		want: `fieldpost.yaml:7: sensors[1].address: i2c-1 at 0x76 is already used by sensors[0] on line 6`,
	},
	{
		name: "device twice",
		text: "sensors:\n- {name: a, chip: mcp3008, device: spidev0.0}\n- {name: b, chip: mcp3008, device: spidev0.0, channels: 3}\n",
		want: `fieldpost.yaml:7: sensors[1].device: spidev0.0 is already used by sensors[0] on line 6`,
	},
	{
		name: "options of a chip's own",
		text: "sensors:\n- {name: a, chip: mcp3008, device: /dev/spidev0.0, vref: 12}\n- {name: b, chip: mcp3008, channels: 0-8}\n- {name: c, chip: mcp3008, device: i2c-1, channels: [0, 1], vreff: 3}\n",
		want: `fieldpost.yaml:6: sensors[0].device: want the device's name: "spidev0.0" (got /dev/spidev0.0)
fieldpost.yaml:6: sensors[0].vref: want 0.25 to 5.5 (got 12)
fieldpost.yaml:7: sensors[1].channels: want channels 0 to 7, such as 0-3 or 0, 2, 5 (got 0-8)
fieldpost.yaml:7: sensors[1].device: is missing; chip mcp3008 needs it
fieldpost.yaml:8: sensors[2].device: want the name of an SPI device, such as spidev0.0, or a link to it such as /dev/spi-adc (got i2c-1)
fieldpost.yaml:8: sensors[2].channels: want channels such as 0-3 or 0, 2, 5, not a list
fieldpost.yaml:8: sensors[2]: unknown key "vreff", did you mean "vref"?`,
	},
	{
		name: "always on, never on",
		text: "outputs:\n- {name: a, pin: GPIO27, safe: on, max_on: 10m}\n",
		want: `fieldpost.yaml:6: outputs[0].max_on: makes no sense with safe: on, which keeps the output on (got 10m)`,
	},
	{
		name: "safe at once",
		text: "outputs:\n- {name: a, pin: GPIO27, safe_after: 1ms}\n",
		want: `fieldpost.yaml:6: outputs[0].safe_after: want at least 100ms, or 0 for ever (got 1ms)`,
	},
	{
		name: "level",
		text: "outputs:\n- {name: a, pin: GPIO27, safe: high}\n",
		want: `fieldpost.yaml:6: outputs[0].safe: want off, on or keep (got high)`,
	},
	{
		name: "initial level",
		text: "outputs:\n- {name: a, pin: GPIO27, initial: safe}\n",
		want: `fieldpost.yaml:6: outputs[0].initial: want off, on, last or keep (got safe)`,
	},
	{
		name: "drive",
		text: "outputs:\n- {name: a, pin: GPIO27, drive: hard}\n",
		want: `fieldpost.yaml:6: outputs[0].drive: want push-pull, open-drain or open-source (got hard)`,
	},
}

// refusedOutputs are options of outputs that do not go together.
var refusedOutputs = []refusal{
	{
		name: "min_on longer than max_on",
		text: "outputs:\n- name: a\n  pin: GPIO27\n  max_on: 1m\n  min_on: 90s\n",
		want: `fieldpost.yaml:9: outputs[0].min_on: is longer than max_on, 1m (got 1m30s)`,
	},
	{
		name: "min_off for days",
		text: "outputs:\n- {name: a, pin: GPIO27, min_off: 25h}\n",
		want: `fieldpost.yaml:6: outputs[0].min_off: want 0s to 24h (got 25h)`,
	},
	{
		name: "made safe, but as it is",
		text: "outputs:\n- name: a\n  pin: GPIO27\n  safe: keep\n  safe_after: 5m\n",
		want: `fieldpost.yaml:9: outputs[0].safe_after: makes no sense with safe: keep, which leaves the output as it is (got 5m)`,
	},
	{
		name: "kept alive, but as it is",
		text: "outputs:\n- name: a\n  pin: GPIO27\n  safe: keep\n  refresh: 30s\n",
		want: `fieldpost.yaml:9: outputs[0].refresh: makes no sense with safe: keep, which leaves the output as it is (got 30s)`,
	},
	{
		name: "refresh without a unit",
		text: "outputs:\n- {name: a, pin: GPIO27, refresh: 30}\n",
		want: `fieldpost.yaml:6: outputs[0].refresh: write a unit: 30s for seconds, 30m for minutes, 30h for hours (got 30)`,
	},
	{
		name: "refresh that no order can keep",
		text: "outputs:\n- {name: a, pin: GPIO27, refresh: 500ms}\n",
		want: `fieldpost.yaml:6: outputs[0].refresh: want at least 1s, or 0 for ever (got 500ms)`,
	},
	{
		name: "refresh that never acts",
		text: "outputs:\n- {name: a, pin: GPIO27, max_on: 1m, refresh: 60s}\n",
		want: `fieldpost.yaml:6: outputs[0].refresh: can never act: it is not shorter than max_on, 1m (got 1m)`,
	},
	{
		name: "refresh with more orders than are remembered",
		text: "outputs:\n- {name: a, pin: GPIO27, refresh: 30s}\n- {name: b, pin: GPIO26, refresh: 6s}\n",
		want: `fieldpost.yaml:7: outputs[1].refresh: needs 17280 orders a day together with the other outputs, but only 16384 are remembered; make it longer, or accept orders without id (commands.unstamped: accept) (got 6s)`,
	},
	{
		name: "watchdog for refresh",
		text: "outputs:\n- {name: a, pin: GPIO27, refrsh: 30s}\n",
		want: `fieldpost.yaml:6: outputs[0]: unknown key "refrsh", did you mean "refresh"?`,
	},
	{
		name: "interlock of what has no safe level",
		text: "outputs:\n- {name: a, pin: GPIO27, safe: keep, interlock: [b]}\n- {name: b, pin: GPIO26}\n",
		want: `fieldpost.yaml:6: outputs[0].interlock: makes no sense with safe: keep, which has no safe level at which the others may act`,
	},
	{
		name: "interlock with what has no safe level",
		text: "outputs:\n- {name: a, pin: GPIO27, interlock: [b]}\n- {name: b, pin: GPIO26, safe: keep}\n",
		want: `fieldpost.yaml:6: outputs[0].interlock[0]: has safe: keep, so it has no safe level at which this output may act (got b)`,
	},
	{
		name: "interlock with what is not there",
		text: "outputs:\n- name: up\n  pin: GPIO27\n  interlock:\n  - dawn\n- {name: down, pin: GPIO26}\n",
		want: `fieldpost.yaml:9: outputs[0].interlock[0]: unknown output "dawn", did you mean "down"?`,
	},
	{
		name: "interlock with itself and twice",
		text: "outputs:\n- {name: up, pin: GPIO27, interlock: [up, down, down]}\n- {name: down, pin: GPIO26}\n",
		want: "fieldpost.yaml:6: outputs[0].interlock[0]: is the output itself (got up)\nfieldpost.yaml:6: outputs[0].interlock[2]: is listed twice (got down)",
	},
	{
		name: "interlock that is no list",
		text: "outputs:\n- {name: up, pin: GPIO27, interlock: down}\n- {name: down, pin: GPIO26}\n",
		want: `fieldpost.yaml:6: outputs[0].interlock: want a list, each entry after "- ", not a single value`,
	},
	{
		name: "interlocked, and both start on",
		text: "outputs:\n- {name: up, pin: GPIO27, initial: on}\n- {name: down, pin: GPIO26, safe: on, initial: off, interlock: [up]}\n",
		want: `fieldpost.yaml:7: outputs[1].interlock[0]: starts away from its safe level, and so does this output; only one of them may (got up)`,
	},
}
