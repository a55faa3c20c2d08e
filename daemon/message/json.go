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

// appendTime is AppendFormat with timeFormat, which would read the format again each time: a
// quarter of what the JSON of a reading takes. at is in UTC.
func appendTime(b []byte, at time.Time) []byte {
	year, month, day := at.Date()
	if year < 0 || year > 9999 {
		return at.AppendFormat(b, timeFormat)
	}
	hour, minute, second := at.Clock()
	b = append(appendTwoDigits(appendTwoDigits(b, year/100), year%100), '-')
	b = append(appendTwoDigits(b, int(month)), '-')
	b = append(appendTwoDigits(b, day), 'T')
	b = append(appendTwoDigits(b, hour), ':')
	b = append(appendTwoDigits(b, minute), ':')
	b = append(appendTwoDigits(b, second), '.')
	millis := at.Nanosecond() / int(time.Millisecond)
	return append(appendTwoDigits(append(b, byte('0'+millis/100)), millis%100), 'Z')
}

// appendTwoDigits appends n, which is 0 to 99.
func appendTwoDigits(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// Encode returns a record's message: one flat JSON object (RFC 8259) with the keys thing,
// kind (not for a reading or an edge), sensor, spool, run, seq, time, then the record's
// fields in their order, then "clock":"unsynced" if the time was not known to be true. A key
// whose value is empty or 0 is left out. A record without a wall time has neither time nor
// clock, and one without a run has no spool. The record's own thing is used if it has one.
//
// Floating-point numbers have the shortest form that reads back the same. A number that is
// not finite cannot be written in JSON and becomes null; [AppendBody] refuses records with
// such numbers. Bytes that are not UTF-8 become U+FFFD.
func Encode(thing string, r Record) []byte {
	b := appendHead(make([]byte, 0, 256), thing, r)
	for _, f := range r.Fields {
		b = appendKey(b, f.Name)
		b = appendValue(b, f.Value)
	}
	return appendEnd(b, r)
}

// EncodeBody is like [Encode], with the fields of a body instead of those of r. [CheckBody] must
// have found the body valid.
func EncodeBody(thing string, r Record, body []byte) []byte {
	b := appendHead(make([]byte, 0, 256), thing, r)
	_, d, n, _ := decodeHead(body)
	for range n {
		name, v := d.value()
		b = appendKey(b, name)
		switch v.form {
		case 'f':
			b = appendFloat(b, v.float)
		case 'i':
			b = strconv.AppendInt(b, v.integer, 10)
		case 's':
			b = appendQuoted(b, v.text)
		default:
			b = strconv.AppendBool(b, v.form == 't')
		}
	}
	return appendEnd(b, r)
}

// appendHead appends what is ahead of a message's fields.
func appendHead(b []byte, thing string, r Record) []byte {
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
		b = append(appendKey(b, "time"), '"')
		b = append(appendTime(b, r.Stamp.Wall.UTC()), '"')
	}
	return b
}

// appendEnd appends what is behind them.
func appendEnd(b []byte, r Record) []byte {
	if !r.Stamp.Synced && !r.Stamp.Wall.IsZero() {
		b = appendText(b, "clock", "unsynced")
	}
	return append(b, '}')
}

// Refused returns the line for a record that the broker will never accept: a JSON object with
// the reason, the time of the refusal, and the message, with the record's own thing. It ends
// with a newline.
func Refused(reason string, at time.Time, r Record) ([]byte, error) {
	b, err := json.Marshal(struct {
		Refused string          `json:"refused"`
		At      time.Time       `json:"at"`
		Message json.RawMessage `json:"message"`
	}{reason, at, Encode("", r)})
	return append(b, '\n'), err
}

func appendKey[T string | []byte](b []byte, key T) []byte {
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

// appendFloat writes a number like ECMAScript: with an exponent only if it is very small or
// very large.
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

func appendQuoted[T string | []byte](b []byte, s T) []byte {
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
	_ = e.Encode(string(s)) // never fails for a string
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}
