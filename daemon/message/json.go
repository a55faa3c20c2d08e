package message

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// timeFormat is RFC 3339 with milliseconds, in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Encode gives the message a record becomes on the wire: one flat JSON object
// (RFC 8259) with the keys thing, kind (not for a reading and an edge),
// sensor, spool, run, seq, time, then the record's fields in their order, then
// "clock":"unsynced" where the time was not known to be true. A key whose
// value is empty or 0 is left out; a record without a wall time carries
// neither time nor clock, and one without a run no spool. The thing's name is
// the record's own where it has one.
//
// Floating-point numbers have their shortest form that reads back the same. A
// number that is not finite has no form in JSON and becomes null; [Append]
// refuses records with such numbers, so none comes this way. Bytes that are
// not UTF-8 become U+FFFD.
func Encode(thing string, r Record) []byte {
	b := make([]byte, 0, 256)
	b = append(b, '{')
	b = appendText(b, "thing", cmp.Or(r.Source.Thing, thing))
	if r.Kind != Reading && r.Kind != Edge {
		b = appendText(b, "kind", string(r.Kind))
	}
	b = appendText(b, "sensor", r.Sensor)
	if r.Run != 0 {
		b = appendText(b, "spool", r.Source.Spool)
	}
	b = appendCount(b, "run", r.Run)
	b = appendCount(b, "seq", r.Seq)
	if !r.Stamp.Wall.IsZero() {
		b = appendText(b, "time", r.Stamp.Wall.UTC().Format(timeFormat))
	}
	for _, f := range r.Fields {
		b = appendKey(b, f.Name)
		b = appendValue(b, f.Value)
	}
	if !r.Stamp.Synced && !r.Stamp.Wall.IsZero() {
		b = appendText(b, "clock", "unsynced")
	}
	return append(b, '}')
}

// Refused gives the line that keeps a record for people which the broker will never
// take: a JSON object with the reason, the time at which it was refused, and the
// message, in which the thing is the record's own. A newline ends it.
func Refused(reason string, at time.Time, r Record) ([]byte, error) {
	b, err := json.Marshal(struct {
		Refused string          `json:"refused"`
		At      time.Time       `json:"at"`
		Message json.RawMessage `json:"message"`
	}{reason, at, Encode("", r)})
	return append(b, '\n'), err
}

func appendKey(b []byte, key string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = appendQuoted(b, key)
	return append(b, ':')
}

func appendText(b []byte, key, v string) []byte {
	if v == "" {
		return b
	}
	return appendQuoted(appendKey(b, key), v)
}

func appendCount(b []byte, key string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendUint(appendKey(b, key), v, 10)
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case float64:
		return appendFloat(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendQuoted(b, v)
	}
	return append(b, "null"...)
}

// appendFloat writes as ECMAScript does: an exponent only for the very small
// and the very large.
func appendFloat(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, v, format, -1, 64)
}

func appendQuoted(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always has a form
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}
