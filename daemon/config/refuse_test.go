package config

import (
	"errors"
	"strings"
	"testing"
)

// refusals are texts after base and the whole message they must give.
var refusals = []struct{ name, text, want string }{
	{"unknown key", "sensor: []\n", `fieldpost.yaml:5: unknown key "sensor", did you mean "sensors"?`},
	{"unknown key, nothing near", "colour: red\n", `fieldpost.yaml:5: unknown key "colour", want one of thing, broker, readings, commands, spool, sensors, outputs`},
	{"unknown key in an entry", "sensors:\n- name: air\n  chip: bme280\n  bus: i2c-1\n  adress: 0x76\n", `fieldpost.yaml:9: sensors[0]: unknown key "adress", did you mean "address"?`},
	{"key with a dash", "spool:\n  max-bytes: 1MiB\n", `fieldpost.yaml:6: spool: unknown key "max-bytes", did you mean "max_bytes"?`},
	{"duplicate key", "thing: other\n", `fieldpost.yaml:5: duplicate key "thing", first on line 1`},
	{"duplicate key in an entry", "outputs:\n- name: pump\n  pin: GPIO27\n  name: fan\n", `fieldpost.yaml:8: outputs[0]: duplicate key "name", first on line 6`},
	{"list as a key", "[a, b]: c\n", `fieldpost.yaml:5: want a plain word as a key`},
	{"value for a section", "spool: big\n", `fieldpost.yaml:5: spool: want keys with values, not a single value`},
	{"list for a section", "spool: [1]\n", `fieldpost.yaml:5: spool: want keys with values, not a list`},
	{"section for a list", "sensors:\n  name: air\n", `fieldpost.yaml:6: sensors: want a list, each entry after "- ", not keys with values`},
	{"value for an entry", "sensors: [air]\n", `fieldpost.yaml:5: sensors[0]: want keys with values, not a single value`},
	{"list for a value", "spool:\n  dir: [a]\n", `fieldpost.yaml:6: spool.dir: want text, not a list`},
	{"keys for a duration", "spool:\n  at_risk: {s: 5}\n", `fieldpost.yaml:6: spool.at_risk: want a duration such as 10s or 5m, not keys with values`},
	{"list for a number of bytes", "spool:\n  max_bytes: [1]\n", `fieldpost.yaml:6: spool.max_bytes: want a number of bytes such as 64MiB, not a list`},
	{"no value", "spool:\n  dir:\n", `fieldpost.yaml:6: spool.dir: has no value; give one or leave the key out`},
	{"empty value", "spool:\n  dir: ''\n", `fieldpost.yaml:6: spool.dir: has no value; give one or leave the key out`},

	{"bare duration", "spool:\n  at_risk: 5\n", `fieldpost.yaml:6: spool.at_risk: write a unit: 5s for seconds, 5m for minutes (got 5)`},
	{"negative duration", "spool:\n  at_risk: -5s\n", `fieldpost.yaml:6: spool.at_risk: want a duration that is not negative (got -5s)`},
	{"days", "spool:\n  max_age: 30d\n", `fieldpost.yaml:6: spool.max_age: want a duration such as 10s, 5m or 720h; there is no unit for days, a day is 24h (got 30d)`},
	{"no duration", "spool:\n  max_age: long\n", `fieldpost.yaml:6: spool.max_age: want a duration such as 500ms, 10s, 5m or 720h (got long)`},
	{"too long at risk", "spool:\n  at_risk: 1h\n", `fieldpost.yaml:6: spool.at_risk: want 0s to 10m (got 1h)`},
	{"too few bytes", "spool:\n  max_bytes: 64KiB\n", `fieldpost.yaml:6: spool.max_bytes: want 1MiB to 1024GiB (got 64KiB)`},
	{"megabytes", "spool:\n  max_bytes: 64MB\n", `fieldpost.yaml:6: spool.max_bytes: want a number of bytes, such as 64MiB (also KiB, GiB, or a plain number) (got 64MB)`},
	{"too many bytes for a number", "spool:\n  max_bytes: 99999999999GiB\n", `fieldpost.yaml:6: spool.max_bytes: is too large a number (got 99999999999GiB)`},
	{"life of an order", "commands:\n  max_life: 100ms\n", `fieldpost.yaml:6: commands.max_life: want 1s to 168h (got 100ms)`},

	{"octal address", tmp("address: 076"), `fieldpost.yaml:9: sensors[0].address: a number with a leading zero, which others read as octal; write it without the zero, or as hexadecimal with 0x (got 076)`},
	{"quoted octal address", tmp("address: '076'"), `fieldpost.yaml:9: sensors[0].address: a number with a leading zero, which others read as octal; write it without the zero, or as hexadecimal with 0x (got 076)`},
	{"octal pin", "outputs:\n- name: pump\n  pin: 017\n", `fieldpost.yaml:7: outputs[0].pin: a number with a leading zero, which others read as octal; put it in quotes (got 017)`},
	{"address too high", tmp("address: 0x90"), `fieldpost.yaml:9: sensors[0].address: want 0x03 to 0x77 (got 0x90)`},
	{"address beyond 16 bits", tmp("address: 0x12345"), `fieldpost.yaml:9: sensors[0].address: is too large a number (got 0x12345)`},
	{"negative address", tmp("address: -1"), `fieldpost.yaml:9: sensors[0].address: want a whole number, such as 118 or 0x76 (got -1)`},
	{"address of another chip", "sensors:\n- name: air\n  chip: bme280\n  bus: i2c-1\n  address: 0x48\n", `fieldpost.yaml:9: sensors[0].address: want 0x76 or 0x77 for chip bme280 (got 0x48)`},
	{"too often", tmp("every: 1ms"), `fieldpost.yaml:9: sensors[0].every: want 10ms to 24h (got 1ms)`},
	{"bus without its name", "sensors:\n- {name: a, chip: tmp102, bus: 1}\n", `fieldpost.yaml:6: sensors[0].bus: want the bus's name: "i2c-1" (got 1)`},
	{"bus by its device", "sensors:\n- {name: a, chip: tmp102, bus: /dev/i2c-1}\n", `fieldpost.yaml:6: sensors[0].bus: want the bus's name: "i2c-1" (got /dev/i2c-1)`},
	{"no bus", "sensors:\n- {name: a, chip: tmp102, bus: spi0}\n", `fieldpost.yaml:6: sensors[0].bus: want the name of an I2C bus, such as i2c-1 (got spi0)`},
	{"zone with a path", "sensors:\n- {name: a, chip: thermal, zone: ../../etc}\n", `fieldpost.yaml:6: sensors[0].zone: want a thermal zone's type or name, such as cpu-thermal or thermal_zone0 (got ../../etc)`},
	{"pull", "sensors:\n- {name: a, chip: gpio, pin: GPIO17, pull: sideways}\n", `fieldpost.yaml:6: sensors[0].pull: want up, down or none (got sideways)`},
	{"active low", "sensors:\n- {name: a, chip: gpio, pin: GPIO17, active_low: yes}\n", `fieldpost.yaml:6: sensors[0].active_low: want on or off, or true or false (got yes)`},
	{"debounce", "sensors:\n- {name: a, chip: gpio, pin: GPIO17, debounce: 1h}\n", `fieldpost.yaml:6: sensors[0].debounce: want 0s to 1m (got 1h)`},

	{"unknown chip", "sensors:\n- {name: a, chip: bme281, bus: i2c-1}\n", `fieldpost.yaml:6: sensors[0].chip: unknown chip "bme281", did you mean "bme280"?`},
	{"missing chip", "sensors:\n- {name: a}\n", `fieldpost.yaml:6: sensors[0].chip: is missing`},
	{"missing name", "sensors:\n- {chip: tmp102, bus: i2c-1}\n", `fieldpost.yaml:6: sensors[0].name: is missing`},
	{"missing bus", "sensors:\n- {name: a, chip: bme280}\n", `fieldpost.yaml:6: sensors[0].bus: is missing; chip bme280 needs it`},
	{"missing pin", "outputs:\n- {name: a}\n", `fieldpost.yaml:6: outputs[0].pin: is missing`},

	{"reserved name", "outputs:\n- {name: fieldpost, pin: GPIO27}\n", `fieldpost.yaml:6: outputs[0].name: this name is fieldpost's own; choose another (got fieldpost)`},
	{"name with a space", "outputs:\n- {name: water pump, pin: GPIO27}\n", `fieldpost.yaml:6: outputs[0].name: want 1 to 64 of the characters A-Z a-z 0-9 _ - (got water pump)`},
	{"name twice", "sensors:\n- {name: a, chip: thermal}\noutputs:\n- {name: a, pin: GPIO27}\n", `fieldpost.yaml:8: outputs[0].name: is already the name of sensors[0] on line 6 (got a)`},
	{"pin twice", "sensors:\n- {name: a, chip: gpio, pin: GPIO17}\noutputs:\n- {name: b, pin: 17}\n", `fieldpost.yaml:8: outputs[0].pin: is the same line as GPIO17 of "a" on line 6 (got 17)`},
	{"pin of the header twice", "outputs:\n- {name: a, pin: P1_11}\n- {name: b, pin: GPIO17}\n", `fieldpost.yaml:7: outputs[1].pin: is the same line as P1_11 of "a" on line 6 (got GPIO17)`},
	{"place twice", "sensors:\n- {name: a, chip: bme280, bus: i2c-1}\n- {name: b, chip: bmp280, bus: i2c-1, address: 0x76}\n", `fieldpost.yaml:7: sensors[1].address: i2c-1 at 0x76 is already read by sensors[0] on line 6`},
	{"always on, never on", "outputs:\n- {name: a, pin: GPIO27, safe: on, max_on: 10m}\n", `fieldpost.yaml:6: outputs[0].max_on: makes no sense with safe: on, which keeps the output on (got 10m)`},
	{"safe at once", "outputs:\n- {name: a, pin: GPIO27, safe_after: 1ms}\n", `fieldpost.yaml:6: outputs[0].safe_after: want at least 100ms, or 0 for ever (got 1ms)`},
	{"level", "outputs:\n- {name: a, pin: GPIO27, safe: high}\n", `fieldpost.yaml:6: outputs[0].safe: want on or off (got high)`},
	{"drive", "outputs:\n- {name: a, pin: GPIO27, drive: hard}\n", `fieldpost.yaml:6: outputs[0].drive: want push-pull, open-drain or open-source (got hard)`},

	{"sensor in the topic of orders", "commands: {topic: 'a/{sensor}'}\n", `fieldpost.yaml:5: commands.topic: {sensor} may stand in readings.topic only (got a/{sensor})`},
	{"unknown placeholder", "commands: {answers: 'a/{board}'}\n", `fieldpost.yaml:5: commands.answers: unknown placeholder {board}, want {thing} (got a/{board})`},
	{"half a placeholder", "commands: {answers: 'a/{thing'}\n", `fieldpost.yaml:5: commands.answers: a brace without its partner; a placeholder is written {thing} (got a/{thing)`},
	{"wildcard", "commands: {topic: 'a/+'}\n", `fieldpost.yaml:5: commands.topic: want one topic, without the wildcards + and # (got a/+)`},
	{"NUL in a topic", "commands: {topic: \"a\\0b\"}\n", `fieldpost.yaml:5: commands.topic: may not hold control characters (got "a\x00b")`},
	{"too many slashes", "commands: {topic: a/b/c/d/e/f/g/h/i}\n", `fieldpost.yaml:5: commands.topic: has 8 slashes once filled in, want at most 7 (got a/b/c/d/e/f/g/h/i)`},
	{"long topic", "commands: {topic: " + strings.Repeat("é", 130) + "}\n", `fieldpost.yaml:5: commands.topic: is 260 bytes long once filled in, want at most 256 (got ` + strings.Repeat("é", 30) + `...)`},

	{"anchor and alias", "sensors: &all []\noutputs: *all\n", "fieldpost.yaml:5: anchors (&all) are not supported; write the value out where it is needed\nfieldpost.yaml:6: aliases (*all) are not supported; write the value out"},
	{"merge key", "spool:\n  <<: {at_risk: 5s}\n", `fieldpost.yaml:6: merge keys (<<) are not supported; write the keys out`},
	{"tag", "spool: {dir: !!str x}\n", `fieldpost.yaml:5: tags (!!str) are not supported; write the plain value`},
	{"two documents", "---\nthing: b\n", `fieldpost.yaml:5: a second document starts here; a configuration is one document, without a line of ---`},

	{"tab", "spool:\n\tdir: x\n", `fieldpost.yaml:6: a tab stands where YAML wants spaces`},
	{"tab before a value", "spool:\n  dir:\t%x\n", `fieldpost.yaml:6: a value cannot begin with %, @ or ` + "`" + ` outside quotes`},
	{"indentation", "spool:\n   dir: x\n  at_risk: 5s\n", `fieldpost.yaml:7: an indentation that does not fit the lines above, or something after a closing quote`},
	{"colon forgotten", "spool:\n  dir: x\noutputs\nsensors: []\n", `fieldpost.yaml:7: want "key: value"; a colon and a space are missing`},
	{"quote never closed", "spool:\n  dir: \"x\nsensors: []\n", `fieldpost.yaml:6: a quote is opened here and never closed`},
	{"second colon", "spool: dir: x\n", `fieldpost.yaml:5: a second ": " in one line, or an indentation that does not fit the line above`},
	{"control character", "spool:\n  dir: a\x01b\n", `fieldpost.yaml:6: an invisible control character; delete it`},
	{"not UTF-8", "spool:\n  dir: \xe9t\xe9\n", `fieldpost.yaml:6: is not UTF-8 text; save the file as UTF-8`},
	{"unknown anchor", "spool: *x\n", `fieldpost.yaml:5: is not YAML: unknown anchor 'x' referenced`},
}

// tmp is a sensor with one more key, on line 9.
func tmp(key string) string {
	return "sensors:\n- name: air\n  chip: tmp102\n  bus: i2c-1\n  " + key + "\n"
}

func TestRefusals(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			if got := refusal(t, base+tt.text); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Texts that stand alone.
func TestRefusalsOfWholeFiles(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "fieldpost.yaml:1: is empty; it needs at least thing, broker.endpoint and readings.topic"},
		{"comments only", "# nothing\n\n", "fieldpost.yaml:1: is empty; it needs at least thing, broker.endpoint and readings.topic"},
		{"empty document", "---\n...\n", "fieldpost.yaml:1: is empty; it needs at least thing, broker.endpoint and readings.topic"},
		{"a list", "- a\n", "fieldpost.yaml:1: want keys with values, not a list"},
		{"a word", "greenhouse\n", "fieldpost.yaml:1: want keys with values, not a single value"},
		{"too large", strings.Repeat("# comment\n", maxFile/10+1), "fieldpost.yaml:1: is larger than 1MiB; this cannot be a configuration of fieldpost"},
		{"UTF-16", "\xff\xfet\x00", "fieldpost.yaml:1: is not UTF-8 text; save the file as UTF-8"},
		{"all missing", "spool: {at_risk: 5s}\n", "fieldpost.yaml:1: thing: is missing\nfieldpost.yaml:1: broker.endpoint: is missing\nfieldpost.yaml:1: readings.topic: is missing"},
		{"sections empty", "thing: a\nbroker:\nreadings:\n", "fieldpost.yaml:2: broker.endpoint: is missing\nfieldpost.yaml:3: readings.topic: is missing"},
		{"long thing", "thing: " + long + "\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: want 1 to 128 of the characters A-Z a-z 0-9 : _ . - (got " + long[:60] + "...)"},
		{"thing with a slash", "thing: a/b\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: want 1 to 128 of the characters A-Z a-z 0-9 : _ . - (got a/b)"},
		{"thing is a list", "thing: [a]\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: want text, not a list"},
		{"octal thing", "thing: 007\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: a number with a leading zero, which others read as octal; put it in quotes (got 007)"},
		{"slashes come with a sensor's name", "thing: a\nbroker: {endpoint: a}\nreadings: {topic: 'x/{thing}/{sensor}/a/b/c/d/e/f'}\n", "fieldpost.yaml:3: readings.topic: has 8 slashes once filled in, want at most 7 (got x/{thing}/{sensor}/a/b/c/d/e/f)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := refusal(t, tt.text); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// The length of a topic is the one with the sensor's name in it.
func TestTopicIsTooLongWithOneSensor(t *testing.T) {
	text := "thing: a\nbroker: {endpoint: a}\nreadings: {topic: '" + strings.Repeat("x", 220) + "/{sensor}'}\nsensors:\n- {name: " + strings.Repeat("s", 40) + ", chip: thermal}\n"
	if got := refusal(t, text); !strings.Contains(got, "readings.topic: is 261 bytes long once filled in") {
		t.Errorf("got %s", got)
	}
}

func TestBrokerIsRefused(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{"endpoint: mqtts://b.example", `want host or host:port without the scheme "mqtts://"; it is always MQTT over TLS (got mqtts://b.example)`},
		{"endpoint: b.example/mqtt", `want host or host:port, nothing behind it (got b.example/mqtt)`},
		{"endpoint: 'b.example:'", `want a port of 1 to 65535 behind the colon (got b.example:)`},
		{"endpoint: b.example:70000", `want a port of 1 to 65535 behind the colon (got b.example:70000)`},
		{"endpoint: b.example:mqtt", `want a port of 1 to 65535 behind the colon (got b.example:mqtt)`},
		{"endpoint: a:b:c", `want host or host:port (got a:b:c)`},
		{"endpoint: ':8883'", `want a host's name or address, with or without a port (got :8883)`},
		{"endpoint: 'my broker'", `want a host's name or address, with or without a port (got my broker)`},
		{"client_id: $me", `may not begin with $ (got $me)`},
		{"client_id: " + strings.Repeat("x", 129), `want at most 128 bytes, not 129 (got ` + strings.Repeat("x", 60) + `...)`},
		{"client_id: \"a\\nb\"", `may not hold control characters (got "a\nb")`},
		{"keep_alive: 10s", `want 30s to 20m (got 10s)`},
		{"keep_alive: 1201s", `want 30s to 20m (got 1201s)`},
	} {
		text := "thing: a\nreadings: {topic: t}\nbroker:\n  " + tt.key + "\n"
		key, _, _ := strings.Cut(tt.key, ":")
		if key != "endpoint" {
			text += "  endpoint: b.example\n"
		}
		if got, want := refusal(t, text), "fieldpost.yaml:4: broker."+key+": "+tt.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// All problems come at once, by line, and can be taken apart.
func TestAllProblemsAtOnce(t *testing.T) {
	text := "outputs:\n- {name: a b, pin: [X]}\nthing: [x]\nbroker: {endpoint: 'a b', keep_alive: 1s}\nreading: {}\n"
	_, err := Parse(place(t), []byte(text))
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("%T is not Errors", err)
	}
	var got []string
	line := 0
	for _, e := range all {
		got = append(got, e.Path)
		if e.Line < line {
			t.Errorf("line %d comes after line %d", e.Line, line)
		}
		line = e.Line
	}
	want := "readings.topic outputs[0].name outputs[0].pin thing broker.endpoint broker.keep_alive "
	if s := strings.Join(got, " "); s != want {
		t.Errorf("paths %q, want %q", s, want)
	}
	var one *Error
	if !errors.As(err, &one) || one.Path != "readings.topic" {
		t.Errorf("errors.As gave %v", one)
	}
}

// A chip's key on another chip is refused, with the keys it does take.
func TestKeyOfAnotherChip(t *testing.T) {
	got := refusal(t, base+"sensors:\n- {name: a, chip: bme280, bus: i2c-1, pin: GPIO17}\n")
	if !strings.HasPrefix(got, "fieldpost.yaml:6: sensors[0].pin: chip bme280 does not take this key; it takes every, ") {
		t.Errorf("got %s", got)
	}
}

// A key pasted into the file instead of its name never gets into a log.
func TestSecretIsNotRepeated(t *testing.T) {
	text := "thing: a\nreadings: {topic: t}\nbroker:\n  endpoint: a\n  key: |\n    -----BEGIN RSA PRIVATE KEY-----\n    c2VjcmV0\n"
	if got, want := refusal(t, text), "fieldpost.yaml:5: broker.key: want the name of a file, not its content"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A file of aliases to aliases costs nothing: none is followed.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x]\n")
	for i := range 40 {
		b.WriteString("a" + string(rune('A'+i)) + ": &a1 [*a0, *a0, *a0, *a0]\n")
	}
	if got := refusal(t, base+b.String()); !strings.Contains(got, "aliases (*a0) are not supported") {
		t.Errorf("got %.200s", got)
	}
}

func TestTooManyEntries(t *testing.T) {
	got := refusal(t, base+"sensors:\n"+strings.Repeat("- {}\n", maxItems+1))
	if want := "fieldpost.yaml:6: sensors: want at most 256 entries, not 257"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Beyond searchable lines the line is the YAML reader's own word.
func TestErrorLineOfLongFile(t *testing.T) {
	text := base + strings.Repeat("# comment\n", searchable) + "spool:\n\tdir: x\nsensors: []\n"
	if got := refusal(t, text); !strings.HasPrefix(got, "fieldpost.yaml:1006: a tab") {
		t.Errorf("got %s", got)
	}
}
