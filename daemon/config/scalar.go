package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/option"

	"gopkg.in/yaml.v3"
)

// scalar reads and checks one value, by the rule of its key or by its type.
func (l *loader) scalar(n *yaml.Node, path, key string, v reflect.Value) {
	l.scalarBy(rules[key], n, path, v)
}

// scalarBy reads and checks one value by a rule.
func (l *loader) scalarBy(r rule, n *yaml.Node, path string, v reflect.Value) {
	switch {
	case n.Kind != yaml.ScalarNode:
		l.fail(path, "want "+wanted(r, v.Type())+", not "+kindOf(n), "")
		return
	case isNull(n) || n.Value == "":
		l.fail(path, "has no value; give one or leave the key out", "")
		return
	case n.Style == 0 && isOctal(n.Value):
		l.fail(path, r.octalReason(n.Value, v), n.Value)
		return
	case v.Type() == reflect.TypeFor[time.Duration]() && isBare(n.Value) && n.Value != "0":
		l.fail(path, r.unitReason(n.Value), n.Value)
		return
	}
	if err := r.read(n.Value, v); err != nil {
		l.fail(path, err.Error(), r.shown(n.Value))
		return
	}
	if r.Check == nil {
		return
	}
	reason := r.Check(v.Interface())
	if reason == "" {
		return
	}
	if r.Meant != nil {
		reason += r.Meant(v.Interface(), n.Value)
	}
	l.fail(path, reason, r.shown(n.Value))
}

// isOctal reports whether text is a number with a leading zero. YAML 1.1, and so many tools
// that may read this file, reads 076 as 62; YAML 1.2 reads it as 76.
func isOctal(text string) bool {
	if text != "" && strings.ContainsRune("+-", rune(text[0])) {
		text = text[1:]
	}
	return len(text) > 1 && text[0] == '0' && strings.Trim(text, "0123456789_") == ""
}

// octalReason says how to write such a value instead.
func (r rule) octalReason(text string, v reflect.Value) string {
	hint := "write it without the zero, or as hexadecimal with 0x"
	switch {
	case v.Kind() != reflect.String:
	case r.Check == nil || r.Check(text) == "":
		hint = "put it in quotes"
	default:
		hint = "write " + cmp.Or(strings.TrimLeft(text, "0"), "0")
	}
	return "has a leading zero, which other programs read as octal; " + hint
}

// unitReason asks for a unit, and lists those with which the number would be valid.
func (r rule) unitReason(text string) string {
	var can, all []string
	for _, u := range []struct{ unit, name string }{{"ms", "milliseconds"}, {"s", "seconds"}, {"m", "minutes"}, {"h", "hours"}} {
		say := text + u.unit + " for " + u.name
		all = append(all, say)
		if d, err := time.ParseDuration(text + u.unit); err == nil && (r.Check == nil || r.Check(d) == "") {
			can = append(can, say)
		}
	}
	if len(can) == 0 {
		can = all
	}
	return "write a unit: " + strings.Join(can, ", ")
}

// read sets v to the value of text.
func (r rule) read(text string, v reflect.Value) error {
	if r.Parse != nil {
		x, err := r.Parse(text)
		if err == nil {
			v.Set(reflect.ValueOf(x).Convert(v.Type()))
		}
		return err
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d, err := duration(text)
		v.SetInt(int64(d))
		return err
	case v.Kind() == reflect.Bool:
		on, err := truth(text)
		v.SetBool(on)
		return err
	case v.CanUint():
		x, err := whole(text, v.Type().Bits())
		v.SetUint(x)
		return err
	case v.CanInt():
		x, err := whole(text, v.Type().Bits()-1)
		v.SetInt(int64(x))
		return err
	case v.CanFloat():
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return errors.New("want a number")
		}
		v.SetFloat(x)
		return nil
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	}
	return fmt.Errorf("cannot be given: the program does not know how to read a %s", v.Type())
}

// wanted describes the values that are expected.
func wanted(r rule, t reflect.Type) string {
	switch {
	case r.Wants != "":
		return r.Wants
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 10s or 5m"
	case t.Kind() == reflect.Bool:
		return "on or off"
	case t.Kind() == reflect.String:
		return "text"
	}
	return "a number"
}

// truth reads the words that people use for levels.
func truth(text string) (bool, error) {
	switch text {
	case "on", "true":
		return true, nil
	case "off", "false":
		return false, nil
	}
	return false, errors.New("want on or off, or true or false")
}

// isBare reports whether text is a number without a unit, such as 10 or 1.5.
func isBare(text string) bool {
	whole, fraction, dot := strings.Cut(text, ".")
	return option.IsNumber(whole) && (!dot || option.IsNumber(fraction))
}

// duration reads a duration in Go's syntax. Bare numbers have been refused before, except 0,
// which is the same in every unit.
func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil && strings.HasSuffix(text, "d"):
		return 0, errors.New("want a duration such as 10s, 5m or 720h; there is no unit for days, a day is 24h")
	case err != nil:
		return 0, errors.New("want a duration such as 500ms, 10s, 5m or 720h")
	case d < 0:
		return 0, errors.New("want a duration that is not negative")
	}
	return d, nil
}

// whole reads a decimal or hexadecimal number of at most bits bits.
func whole(text string, bits int) (uint64, error) {
	base, digits := 10, text
	if rest, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		base, digits = 16, rest
	} else if isOctal(text) {
		return 0, errors.New("has a leading zero, which other programs read as octal; write it without the zero, or as hexadecimal with 0x")
	}
	x, err := strconv.ParseUint(digits, base, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, errors.New("is too large a number")
	case err != nil:
		return 0, errors.New("want a whole number, such as 118 or 0x76")
	}
	return x, nil
}

var sizes = []struct {
	unit  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// bytesOf reads a number of bytes: 64MiB, or a plain number.
func bytesOf(text string) (any, error) {
	unit, digits := int64(1), text
	for _, s := range sizes {
		if rest, ok := strings.CutSuffix(text, s.unit); ok {
			unit, digits = s.bytes, strings.TrimSpace(rest)
		}
	}
	x, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && int64(x) > math.MaxInt64/unit:
		return nil, errors.New("is too large a number")
	case err != nil || isOctal(digits):
		return nil, errors.New("want a number of bytes, such as 64MiB (also KiB, GiB, or a plain number)")
	}
	return int64(x) * unit, nil
}

// size formats a number of bytes as bytesOf reads it.
func size(n int64) string {
	for _, s := range sizes {
		if n >= s.bytes && n%s.bytes == 0 {
			return strconv.FormatInt(n/s.bytes, 10) + s.unit
		}
	}
	return strconv.FormatInt(n, 10)
}
