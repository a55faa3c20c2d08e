package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/sensors"
)

// sample is a record of every kind of value.
func sample() Record {
	return Record{
		Kind: Reading, Sensor: "air", Run: 7, Seq: 41,
		Stamp: clock.Stamp{
			Boot: "3a1f6c9e-0000-4b7d-9c1d-0123456789ab", Mono: 90 * time.Second,
			Wall: time.Date(2026, 11, 21, 19, 2, 11, 123_456_789, time.UTC), Synced: true,
		},
		Fields: []sensors.Field{
			{Name: "temperature", Value: 21.53}, {Name: "count", Value: int64(-1042)},
			{Name: "active", Value: true}, {Name: "wet", Value: false}, {Name: "text", Value: "a \"ü\"\n"},
		},
	}
}

func TestBodyRoundTrip(t *testing.T) {
	for name, fields := range map[string][]sensors.Field{
		"all":       sample().Fields,
		"no fields": nil,
		"extremes":  {{Name: "a", Value: math.MaxFloat64}, {Name: "b", Value: int64(math.MinInt64)}, {Name: "c", Value: math.Copysign(0, -1)}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := AppendBody(nil, Record{Kind: Reading, Fields: fields})
			if err != nil {
				t.Fatal(err)
			}
			kind, got, err := DecodeBody(b)
			if err != nil || kind != Reading || !reflect.DeepEqual(got, fields) {
				t.Errorf("got  %s %+v, %v\nwant %+v", kind, got, err, fields)
			}
		})
	}
}

func TestBodyRefuses(t *testing.T) {
	for _, c := range []struct {
		value any
		name  string
		want  string
	}{
		{math.NaN(), "v", `field "v" is NaN`},
		{math.Inf(-1), "v", `field "v" is -Inf`},
		{float32(1), "v", `field "v" is a float32`},
		{1, "v", `field "v" is a int`},
		{nil, "v", `field "v" is a <nil>`},
		{1.0, "time", `may not be named "time"`},
		{1.0, "", `may not be named ""`},
		{strings.Repeat("x", durable.MaxPayload), "v", "larger than 131072"},
	} {
		r := Record{Kind: Reading, Fields: []sensors.Field{{Name: c.name, Value: c.value}}}
		if b, err := AppendBody([]byte("x"), r); err == nil || !strings.Contains(err.Error(), c.want) || string(b) != "x" {
			t.Errorf("%v: %d bytes, error %v, want %q", c.name, len(b), err, c.want)
		}
	}
	if _, err := AppendBody(nil, Record{}); err == nil {
		t.Error("a record without a kind was taken")
	}
}

func TestDecodeEveryPrefixFails(t *testing.T) {
	b, err := AppendBody(nil, sample())
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if kind, fields, err := DecodeBody(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes gave %s %+v", n, len(b), kind, fields)
		}
	}
	if _, _, err := DecodeBody(append(b, 0)); err == nil {
		t.Error("a byte too many went unseen")
	}
}

func FuzzDecodeBody(f *testing.F) {
	b, err := AppendBody(nil, sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{codecVersion, 1, 'x', 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, fields, err := DecodeBody(b)
		if checked, bad := CheckBody(b); checked != kind || fmt.Sprint(bad) != fmt.Sprint(err) {
			t.Errorf("%x: checked %q, %v; decoded %q, %v", b, checked, bad, kind, err)
		}
		if err != nil {
			return
		}
		r := Record{Kind: kind, Sensor: "air", Run: 1, Fields: fields}
		if got, want := EncodeBody("t", Record{Kind: kind, Sensor: "air", Run: 1}, b), Encode("t", r); !bytes.Equal(got, want) {
			t.Errorf("%x gave %s, want %s", b, got, want)
		}
		again, err := AppendBody(nil, Record{Kind: kind, Fields: fields})
		if err != nil {
			return // numbers and names that AppendBody refuses
		}
		kindBack, back, err := DecodeBody(again)
		if err != nil || kindBack != kind || !reflect.DeepEqual(back, fields) {
			t.Errorf("%x gave %s %+v, which gave %s %+v, %v", b, kind, fields, kindBack, back, err)
		}
	})
}

// A message is made of a body without decoding it first. Only the result is allocated.
func TestEncodeBody(t *testing.T) {
	r := sample()
	r.Fields = r.Fields[:4]
	body, err := AppendBody(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	want := Encode("thing-greenhouse", r)
	r.Fields = nil
	if got := EncodeBody("thing-greenhouse", r, body); !bytes.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { EncodeBody("thing-greenhouse", r, body) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = CheckBody(body) }); n > 0 {
		t.Errorf("%v allocations of CheckBody", n)
	}
}

func TestEncode(t *testing.T) {
	reading, unsynced := sample(), sample()
	unsynced.Stamp.Synced = false
	bare := Record{Kind: Status, Fields: []sensors.Field{{Name: "status", Value: "offline"}}}
	gap := Record{Kind: Gap, Sensor: "air", Run: 7, Stamp: clock.Stamp{Wall: time.Unix(0, 0), Synced: true},
		Fields: []sensors.Field{{Name: "after_seq", Value: int64(41)}, {Name: "certain", Value: false}}}
	edge := reading
	edge.Kind, edge.Fields = Edge, []sensors.Field{{Name: "active", Value: true}}
	numbers := bare
	numbers.Fields = []sensors.Field{
		{Name: "a", Value: 101325.0}, {Name: "b", Value: 1e21}, {Name: "c", Value: 1e-7}, {Name: "d", Value: 1234567.0},
		{Name: "e", Value: 0.1}, {Name: "f", Value: math.NaN()}, {Name: "g", Value: int64(math.MaxInt64)}, {Name: "h", Value: struct{}{}},
	}
	for _, c := range []struct {
		r    Record
		want string
	}{
		{reading, `{"thing":"t","sensor":"air","run":7,"seq":41,"time":"2026-11-21T19:02:11.123Z","temperature":21.53,"count":-1042,"active":true,"wet":false,"text":"a \"ü\"\n"}`},
		{unsynced, `{"thing":"t","sensor":"air","run":7,"seq":41,"time":"2026-11-21T19:02:11.123Z","temperature":21.53,"count":-1042,"active":true,"wet":false,"text":"a \"ü\"\n","clock":"unsynced"}`},
		{edge, `{"thing":"t","sensor":"air","run":7,"seq":41,"time":"2026-11-21T19:02:11.123Z","active":true}`},
		{gap, `{"thing":"t","kind":"gap","sensor":"air","run":7,"time":"1970-01-01T00:00:00.000Z","after_seq":41,"certain":false}`},
		{bare, `{"thing":"t","kind":"status","status":"offline"}`},
		{numbers, `{"thing":"t","kind":"status","a":101325,"b":1e+21,"c":1e-07,"d":1234567,"e":0.1,"f":null,"g":9223372036854775807,"h":null}`},
		{Record{Kind: Reading}, `{"thing":"t"}`},
	} {
		if got := string(Encode("t", c.r)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if got := string(Encode("", Record{Kind: Reading})); got != "{}" {
		t.Errorf("nothing at all gave %s", got)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("t", "air", uint64(7), "temperature", 21.5, "text", int64(0))
	f.Add("\xff", "\"\\", uint64(0), "<&>", 5e-324, "\u2028\x00", int64(-1))
	f.Fuzz(func(t *testing.T, thing, sensor string, seq uint64, name string, v float64, text string, wall int64) {
		r := Record{Kind: Fault, Sensor: sensor, Seq: seq, Stamp: clock.Stamp{Wall: time.UnixMilli(wall)},
			Fields: []sensors.Field{{Name: name, Value: v}, {Name: name, Value: text}, {Name: "i", Value: wall}}}
		b := Encode(thing, r)
		if !json.Valid(b) {
			t.Fatalf("not JSON: %s", b)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		want := map[string]any{}
		if plain, err := json.Marshal(map[string]string{"text": text}); err == nil && name == "text" {
			if err := json.Unmarshal(plain, &want); err != nil {
				t.Fatal(err)
			}
			if got["text"] != want["text"] {
				t.Errorf("text %q came back as %q", text, got["text"])
			}
		}
		if bytes.ContainsAny(b, "\n\r") {
			t.Errorf("message is not one line: %q", b)
		}
	})
}

// The form on disk is that of all versions: what an older one has written is read,
// and an older one reads what this one writes.
func TestFormOnDisk(t *testing.T) {
	const want = "010772656164696e67" + "050b74656d70657261747572656648e17a14ae87354005636f756e7469a3100661637469766574037765746e04746578747307612022c3bc220a"
	b, err := AppendBody(nil, sample())
	if err != nil || fmt.Sprintf("%x", b) != want {
		t.Errorf("got %x, %v", b, err)
	}
}

func TestNewGap(t *testing.T) {
	for _, c := range []struct {
		x    Loss
		want string
	}{
		{Loss{Reason: "spool_full", First: 1, Last: 9}, `"after_seq":0,"to_seq":9,"reason":"spool_full"}`},
		{Loss{Reason: "crash", First: 42, Uncertain: true}, `"after_seq":41,"reason":"crash","certain":false}`},
		{Loss{Reason: "too_old", Count: 3}, `"reason":"too_old","count":3}`},
		{Loss{Reason: "damaged", Count: 3, Uncertain: true}, `"reason":"damaged","count":3,"certain":false}`},
	} {
		at := clock.Stamp{Wall: time.Unix(0, 0), Synced: true}
		r := NewGap("air", 7, at, Source{Thing: "t", Spool: "k7m2qx"}, c.x)
		want := `{"thing":"t","kind":"gap","sensor":"air","spool":"k7m2qx","run":7,"time":"1970-01-01T00:00:00.000Z",` + c.want
		if got := string(Encode("other", r)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	r := Record{Kind: Reading, Sensor: "air", Run: 7, Seq: 41, Source: Source{Thing: "greenhouse", Spool: "k7m2qx"}, Fields: []sensors.Field{{Name: "t", Value: 21.5}}}
	got, err := Refused("too <large>", time.Date(2026, 11, 21, 19, 2, 11, 0, time.UTC), r)
	want := `{"refused":"too \u003clarge\u003e","at":"2026-11-21T19:02:11Z","message":{"thing":"greenhouse","sensor":"air","spool":"k7m2qx","run":7,"seq":41,"t":21.5}}` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
