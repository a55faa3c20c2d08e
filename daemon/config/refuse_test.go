package config

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"fieldpost/sensors"
)

// refusal is a text that stands after base, and the whole message it gives.
type refusal struct{ name, text, want string }

// refusals are all of them; the fuzzer starts from them too.
var refusals = slices.Concat(refusedShapes, refusedYAML, refusedText, refusedValues, refusedTopics, refusedKeys, refusedEntries, refusedPairs, refusedOutputs, refusedPWM, refusedFilters, refusedDerivations)

func TestRefusals(t *testing.T) {
	var chips []string
	for _, c := range sensors.Catalog() {
		chips = append(chips, c.Name)
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			want := strings.ReplaceAll(tt.want, "{chips}", strings.Join(chips, ", "))
			if got := refused(t, base+tt.text); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
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
		{"too large", strings.Repeat("# comment\n", maxFile/10+1), "fieldpost.yaml:1: is larger than 128KiB; this cannot be a configuration of fieldpost"},
		{"UTF-16", "\xff\xfet\x00", "fieldpost.yaml:1: is not UTF-8 text; save the file as UTF-8"},
		{"all missing", "spool: {at_risk: 5s}\n", "fieldpost.yaml:1: thing: is missing\nfieldpost.yaml:1: broker.endpoint: is missing\nfieldpost.yaml:1: readings.topic: is missing"},
		{"sections empty", "thing: a\nbroker:\nreadings:\n", "fieldpost.yaml:2: broker.endpoint: is missing\nfieldpost.yaml:3: readings.topic: is missing"},
		{"long thing", "thing: " + long + "\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: want 1 to 128 of the characters A-Z a-z 0-9 : _ . - (got " + long[:60] + "...)"},
		{"thing with a slash", "thing: a/b\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: want 1 to 128 of the characters A-Z a-z 0-9 : _ . - (got a/b)"},
		{"thing is a list", "thing: [a]\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: want text, not a list"},
		{"batches of none", batched("{max: 0}"), "fieldpost.yaml:3: readings.batch.max: want 1 to 1000 (got 0)"},
		{"batches too large", batched("{max: 1001}"), "fieldpost.yaml:3: readings.batch.max: want 1 to 1000 (got 1001)"},
		{"batches wait too long", batched("{max: 2, within: 61s}"), "fieldpost.yaml:3: readings.batch.within: want 0s to 1m (got 61s)"},
		{"batches wait a bare number", batched("{max: 2, within: 5}"), "fieldpost.yaml:3: readings.batch.within: write a unit: 5ms for milliseconds, 5s for seconds (got 5)"},
		{"batches of unknown size", batched("{within: 5s}"), "fieldpost.yaml:3: readings.batch.max: is missing; without it there are no batches"},
		{"batches by a number", batched("20"), "fieldpost.yaml:3: readings.batch: want keys with values, not a single value"},
		{"waits too long", lingers("501ms", ""), "fieldpost.yaml:3: readings.linger: want 0s to 500ms (got 501ms)"},
		{"waits a bare number", lingers("50", ""), "fieldpost.yaml:3: readings.linger: write a unit: 50ms for milliseconds (got 50)"},
		{"waits before it is on disk", lingers("1ms", "spool: {at_risk: 0}"), "fieldpost.yaml:3: readings.linger: has no effect with spool.at_risk: 0, which sends each reading as soon as it is on disk; leave it out (got 1ms)"},
		{"waits for the disk", lingers("20ms", "spool: {at_risk: 100ms}"), "fieldpost.yaml:3: readings.linger: is longer than an eighth of spool.at_risk (100ms), so each reading would be written to disk first (got 20ms)"},
		{"waits longer than its batch", lingers("20ms, batch: {max: 5, within: 10ms}", ""), "fieldpost.yaml:3: readings.linger: is longer than readings.batch.within (10ms), the longest that a reading may wait (got 20ms)"},
		{"batches of plain values", "thing: a\nbroker: {endpoint: a}\nreadings: {topic: '{sensor}/{quantity}', batch: {max: 5}}\n", "fieldpost.yaml:3: readings.batch.max: cannot be used with {quantity} in readings.topic: a plain value is a message of its own"},
		{"quantities of all sensors together", "thing: a\nbroker: {endpoint: a}\nreadings: {topic: 'x/{quantity}'}\n", "fieldpost.yaml:3: readings.topic: has {quantity} without {sensor}: two sensors would share a topic (got x/{quantity})"},
		{"octal thing", "thing: 007\nbroker: {endpoint: a}\nreadings: {topic: t}\n", "fieldpost.yaml:1: thing: has a leading zero, which other programs read as octal; put it in quotes (got 007)"},
		{"slashes come with a sensor's name", "thing: a\nbroker: {endpoint: a}\nreadings: {topic: 'x/{thing}/{sensor}/a/b/c/d/e/f'}\n", "fieldpost.yaml:3: readings.topic: once filled in, has 8 slashes, want at most 7 (got x/{thing}/{sensor}/a/b/c/d/e/f)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := refused(t, tt.text); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// lingers is a file with this as its readings.linger, and another section.
func lingers(linger, more string) string {
	return "thing: a\nbroker: {endpoint: a}\nreadings: {topic: t, linger: " + linger + "}\n" + more + "\n"
}

// batched is a file with this as its readings.batch.
func batched(batch string) string {
	return "thing: a\nbroker: {endpoint: a}\nreadings: {topic: t, batch: " + batch + "}\n"
}

// The length of a topic is the one with the sensor's name in it.
func TestTopicIsTooLongWithOneSensor(t *testing.T) {
	text := "thing: a\nbroker: {endpoint: a}\nreadings: {topic: '" + strings.Repeat("x", 220) + "/{sensor}'}\nsensors:\n- {name: " + strings.Repeat("s", 40) + ", chip: thermal}\n"
	if got := refused(t, text); !strings.Contains(got, "readings.topic: once filled in, is 261 bytes long, want at most 256") {
		t.Errorf("got %s", got)
	}
}

func TestBrokerIsRefused(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{"endpoint: mqtts://b.example", `want host or host:port without the scheme "mqtts://"; it is always MQTT over TLS (got mqtts://b.example)`},
		{"endpoint: b.example/mqtt", `want host or host:port, nothing after it (got b.example/mqtt)`},
		{"endpoint: 'b.example:'", `want a port of 1 to 65535 after the colon (got b.example:)`},
		{"endpoint: b.example:70000", `want a port of 1 to 65535 after the colon (got b.example:70000)`},
		{"endpoint: b.example:mqtt", `want a port of 1 to 65535 after the colon (got b.example:mqtt)`},
		{"endpoint: a:b:c", `want host or host:port (got a:b:c)`},
		{"endpoint: ':8883'", `want a host's name or address, with or without a port (got :8883)`},
		{"endpoint: 'my broker'", `want a host's name or address, with or without a port (got my broker)`},
		{"client_id: $me", `must not begin with $ (got $me)`},
		{"client_id: " + strings.Repeat("x", 129), `want at most 128 bytes, not 129 (got ` + strings.Repeat("x", 60) + `...)`},
		{"client_id: \"a\\nb\"", `must not contain control characters (got "a\nb")`},
		{"keep_alive: 10s", `want 30s to 20m (got 10s)`},
		{"will: online", `want offline or none (got online)`},
		{"verify: true", `want auto, subscribe or none (got true)`},
		{"limits: AWS", `want auto, aws or none (got AWS)`},
		{"keep_alive: 1201s", `want 30s to 20m (got 1201s)`},
	} {
		text := "thing: a\nreadings: {topic: t}\nbroker:\n  " + tt.key + "\n"
		key, _, _ := strings.Cut(tt.key, ":")
		if key != "endpoint" {
			text += "  endpoint: b.example\n"
		}
		if got, want := refused(t, text), "fieldpost.yaml:4: broker."+key+": "+tt.want; got != want {
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
	got := refused(t, base+"sensors:\n- {name: a, chip: bme280, bus: i2c-1, pin: GPIO17}\n")
	if !strings.HasPrefix(got, "fieldpost.yaml:6: sensors[0].pin: chip bme280 does not have this key; it has every, ") {
		t.Errorf("got %s", got)
	}
}

// A key pasted into the file instead of its name never gets into a log.
func TestSecretIsNotRepeated(t *testing.T) {
	text := "thing: a\nreadings: {topic: t}\nbroker:\n  endpoint: a\n  key: |\n    -----BEGIN RSA PRIVATE KEY-----\n    c2VjcmV0\n"
	if got, want := refused(t, text), "fieldpost.yaml:5: broker.key: want the name of a file, not its content"; got != want {
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
	if got := refused(t, base+b.String()); !strings.Contains(got, "aliases (*a0) are not supported") {
		t.Errorf("got %.200s", got)
	}
}

func TestTooManyEntries(t *testing.T) {
	got := refused(t, base+"sensors:\n"+strings.Repeat("- {}\n", maxItems+1))
	if want := "fieldpost.yaml:6: sensors: want at most 256 entries, not 257"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The line is found in a long file too, if it is near the end.
func TestErrorLineOfLongFile(t *testing.T) {
	text := base + strings.Repeat("# comment\n", 12000) + "spool:\n\tdir: x\nsensors: []\n"
	if got := refused(t, text); !strings.HasPrefix(got, "fieldpost.yaml:12006: a tab") {
		t.Errorf("got %s", got)
	}
}

// Of a hundred thousand problems the first twenty are told, by line, and how
// many more there are.
func TestFirstProblems(t *testing.T) {
	var text strings.Builder
	text.WriteString("thing: a/b\n")
	for i := range 10000 {
		fmt.Fprintf(&text, "k%d: 1\n", i)
	}
	lines := strings.Split(refused(t, text.String()), "\n")
	if len(lines) != maxReported+1 {
		t.Fatalf("%d lines, want %d", len(lines), maxReported+1)
	}
	for i, want := range []string{"fieldpost.yaml:1: thing: want 1 to 128", "fieldpost.yaml:1: broker.endpoint: is missing", "fieldpost.yaml:1: readings.topic: is missing"} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d: %s, want %s", i, lines[i], want)
		}
	}
	for i, line := range lines[3:maxReported] {
		if want := fmt.Sprintf("fieldpost.yaml:%d: unknown key \"k%d\"", i+2, i); !strings.HasPrefix(line, want) {
			t.Errorf("got %s, want %s", line, want)
		}
	}
	if want := "fieldpost.yaml:19: and 9983 more problems from this line on; fix the ones above first"; lines[maxReported] != want {
		t.Errorf("got %s, want %s", lines[maxReported], want)
	}
	for more, want := range map[int]string{0: "", 1: "fieldpost.yaml:25: and one more problem here; fix the ones above first", 2: "fieldpost.yaml:25: and 2 more problems from this line on; fix the ones above first"} {
		text := base
		for i := range maxReported + more {
			text += fmt.Sprintf("k%d: 1\n", i)
		}
		lines := strings.Split(refused(t, text), "\n")
		if got := lines[len(lines)-1]; want == "" && len(lines) != maxReported || want != "" && got != want {
			t.Errorf("%d more: %d lines, at last %s", more, len(lines), got)
		}
	}
}

// No file costs more memory than the unit has, whatever YAML it is, nor the
// time that goes with it.
func TestCostOfBadFiles(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, (maxFile-200)/len(s)) }
	long := fill("k: [" + strings.Repeat("a,", 500) + "]\n")
	half := strings.LastIndexByte(long[:len(long)/2], '\n') + 1
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := range 1000 {
		bomb += fmt.Sprintf("a%d: &a%[1]d [%s]\n", i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	for name, text := range map[string]string{
		"flow keys": "{" + fill("a,") + "}", "question marks": fill("? a\n"), "tags": fill("a: !x y\n"), "documents": fill("---\n"),
		"anchors": fill("- &a\n"), "aliases": "a: &a x\nb:\n" + fill("- *a\n"), "bomb": bomb, "merge": fill("<<: a\n"), "same key": fill("thing: a\n"),
		"deep flow": fill("["), "deep flow keys": fill("{a: "), "deep list": fill("- "), "deep keys": fill("? "),
		"lists": "a: [" + fill("[],") + "]", "comments": "a:\n" + fill(" #\n - a\n"), "interlock": "outputs: [{interlock: [" + fill("a,") + "]}]",
		"word": "thing: " + fill("x"), "quoted": "thing: \"" + fill("x") + "\"", "escapes": "thing: \"" + fill("\\u0041") + "\"",
		"never closed": "thing: \"" + fill("x\n"), "key": fill("k") + ": 1", "block": "thing: |\n" + fill("  x\n"), "folded": "thing: >\n" + fill(" x\n\n"),
		"digits": "thing: " + fill("9"), "sexagesimal": "thing: " + fill("1:") + "1", "base64": "thing: !!binary " + fill("QUFB"), "sensors": "sensors: [" + fill("{name: a},") + "]",
		"late mistake": long + "x: \"\n", "mistake in the middle": long[:half] + "x: y: z\n" + long[half:], "short lines": strings.Repeat("a:\n", 900) + " x: y: z\n" + fill("b:\n")[:1000],
	} {
		if len(text) > maxFile {
			t.Errorf("%s: %d bytes", name, len(text))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse("fieldpost.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		var all Errors
		if !errors.As(err, &all) || len(all) > maxReported+1 {
			t.Errorf("%s: %d problems: %.300v", name, len(all), err)
		}
		for _, e := range all {
			if n := len(e.Error()); n > 400 {
				t.Errorf("%s: a problem of %d bytes: %.400s", name, n, e)
			}
		}
		// In all; most of it is let go of at once.
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 400 {
			t.Errorf("%s: %d MiB allocated", name, mib)
		}
	}
}
