package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"fieldpost/daemon/output"
)

// The bounds of an order.
const (
	// MaxOrder is the largest order, in bytes; AWS IoT Core takes 128 KiB.
	MaxOrder = 64 << 10
	maxName  = 128     // characters of an id or of an output's name
	maxHead  = 1 << 10 // bytes of a larger message that are parsed
	// maxMembers is how many members of an object are parsed, more than an order has. It
	// limits the cost of parsing.
	maxMembers = 16
)

// Order is a decoded order.
type Order struct {
	ID      string // "" if it has none
	Output  string
	Action  output.Action
	Level   output.Level  // of the action set; otherwise 0
	For     time.Duration // 0 if it has none
	Expires time.Time     // UTC; zero if it has none
}

// same reports whether two orders are identical.
func (o Order) same(p Order) bool {
	return o.ID == p.ID && o.Output == p.Output && o.Action == p.Action && o.Level == p.Level && o.For == p.For && o.Expires.Equal(p.Expires)
}

// ErrNotOrder is the reason when a message is not an order to this board.
var ErrNotOrder = errors.New("not an order to this board")

// RefusedError says why an order cannot be decoded.
type RefusedError struct {
	Code   Code
	Detail string // details, lower case; may be empty
	ID     string // the order's id, if it could be read
	Output string // the output's name, if it could be read
}

// Error returns the code and the details.
func (e *RefusedError) Error() string {
	if e.Detail == "" {
		return "order refused: " + string(e.Code)
	}
	return "order refused: " + string(e.Code) + ": " + e.Detail
}

// Decode parses an order for the board called thing. The error wraps [ErrNotOrder] if the
// message is no order or not for this board, and is a [*RefusedError] if the order is
// malformed.
func Decode(payload []byte, thing string) (Order, error) {
	if len(payload) > MaxOrder {
		return Order{}, tooLarge(payload, len(payload), thing)
	}
	fields, err := splitObject(payload)
	if err != nil {
		return Order{}, fmt.Errorf("%w: %w", ErrNotOrder, err)
	}
	if err := checkOurs(fields, thing); err != nil {
		return Order{}, err
	}
	o, code, err := buildOrder(fields) // [CMD-2]
	if err != nil {
		return Order{}, &RefusedError{Code: code, Detail: err.Error(), ID: o.ID, Output: o.Output}
	}
	return o, nil
}

// tooLarge returns the error of a message of more than MaxOrder bytes. Only its first
// KiB, the head, decides whether it is an order for this board: the rest, which may
// contain a kind or another thing, is not read. [CMD-2]
func tooLarge(head []byte, size int, thing string) error {
	fields := readMembers(json.NewDecoder(bytes.NewReader(head[:min(len(head), maxHead)])))
	if err := checkOurs(fields, thing); err != nil {
		return err
	}
	o, _, _ := buildOrder(fields)
	return &RefusedError{Code: TooLarge, Detail: fmt.Sprintf("%d bytes", size), ID: o.ID, Output: o.Output}
}

// readMembers reads an object's complete members.
func readMembers(d *json.Decoder) (fields []member) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() && len(fields) < maxMembers {
		t, err := d.Token()
		name, ok := t.(string)
		f := member{key: name}
		if err != nil || !ok || d.Decode(&f.value) != nil {
			break
		}
		fields = append(fields, f)
	}
	return fields
}

// member is one member of an object.
type member struct {
	key   string
	value json.RawMessage
}

// splitObject returns the members of one JSON object, in their order. It stops after
// maxMembers.
func splitObject(payload []byte) ([]member, error) {
	if !utf8.Valid(payload) {
		return nil, errors.New("not UTF-8") // RFC 8259, section 8.1
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var fields []member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		f := member{key: t.(string)} // Token fails on anything else
		if err := d.Decode(&f.value); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		if fields = append(fields, f); len(fields) == maxMembers {
			return fields, nil
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return fields, nil
}

// checkOurs returns an error unless an object is an order for this board. [CMD-1]
func checkOurs(fields []member, thing string) error {
	action, level, named := false, false, false
	for _, f := range fields {
		switch f.key {
		case "kind":
			return fmt.Errorf("%w: it has a kind", ErrNotOrder)
		case "thing":
			if name, err := parseString(f.value); err != nil || name != thing {
				return fmt.Errorf("%w: it is for another", ErrNotOrder)
			}
		case "action":
			action = true
		case "level":
			level = true
		case "output":
			named = true
		}
	}
	if !action && !(level && named) {
		return fmt.Errorf("%w: it has no action, and no output with a level", ErrNotOrder)
	}
	return nil
}

// buildOrder makes an order of an object's members. With an error it also returns the id
// and output that could be read, for the answer.
func buildOrder(fields []member) (o Order, code Code, err error) {
	code = Malformed
	keep := func(c Code, e error) {
		if err == nil && e != nil {
			code, err = c, e
		}
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.key] {
			keep(Malformed, fmt.Errorf("key %.80q is given twice", f.key))
			if f.key == "id" {
				o.ID = "" // the answer could be to either
			}
			continue
		}
		seen[f.key] = true
		keep(o.setMember(f))
	}
	if !seen["output"] {
		keep(Malformed, errors.New("no output"))
	}
	switch {
	case seen["level"] && !seen["action"]:
		o.Action = output.ActionSet
	case seen["level"] && o.Action != output.ActionSet && o.Action != "":
		keep(Malformed, fmt.Errorf("level does not go with action %q; leave action out", o.Action))
	case !seen["level"] && o.Action == output.ActionSet:
		keep(Malformed, errors.New("action set needs level"))
	}
	return o, code, err
}

// setMember reads one member into the order.
func (o *Order) setMember(f member) (code Code, err error) {
	switch f.key {
	case "thing":
	case "id":
		o.ID, err = parseName(f.value)
	case "output":
		o.Output, err = parseName(f.value)
	case "action":
		var s string
		if s, err = parseString(f.value); err != nil {
			break
		}
		if o.Action, err = output.ParseAction(s); err != nil {
			return UnknownAction, fmt.Errorf("%.80q", s)
		}
	case "level":
		o.Level, err = parseLevel(f.value)
	case "for":
		o.For, err = parseDuration(f.value)
	case "expires":
		o.Expires, err = parseTime(f.value)
	default:
		return Malformed, fmt.Errorf("unknown key %.80q", f.key)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", f.key, err)
	}
	return Malformed, err
}

// parseString parses a string.
func parseString(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("want a string, got %s", typeName(raw))
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// typeName returns the type of a JSON value.
func typeName(raw json.RawMessage) string {
	switch {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "an array"
	case raw[0] == 'n':
		return "null"
	case raw[0] == 't', raw[0] == 'f':
		return "a truth value"
	case raw[0] == '"':
		return "a string"
	}
	return "a number"
}

// parseName parses an id or an output's name. It refuses U+FFFD: decoding replaces lone
// surrogates by it, which could make two different ids the same.
func parseName(raw json.RawMessage) (string, error) {
	s, err := parseString(raw)
	if err != nil {
		return "", err
	}
	if n := utf8.RuneCountInString(s); n < 1 || n > maxName {
		return "", fmt.Errorf("want 1 to %d characters, got %d", maxName, n)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return "", errors.New("want printable characters")
	}
	return s, nil
}

// parseLevel parses a percentage, a number without a unit.
func parseLevel(raw json.RawMessage) (output.Level, error) {
	var p float64
	if len(raw) == 0 || !strings.ContainsRune("-0123456789", rune(raw[0])) || json.Unmarshal(raw, &p) != nil {
		return 0, fmt.Errorf("want a number of percent from 0 to 100 such as 40, got %s", typeName(raw))
	}
	l, ok := output.Percent(p)
	if !ok {
		return 0, fmt.Errorf("want percent from 0 to 100 with at most two decimals, got %.80s", raw)
	}
	return l, nil
}

func parseDuration(raw json.RawMessage) (time.Duration, error) {
	s, err := parseString(raw)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("want a duration such as 30s, more than 0, got %.80q", s)
	}
	return d, nil
}

// dateTime matches date-time of RFC 3339, section 5.6, where [time.Parse] accepts more
// (golang/go issue 54580).
var dateTime = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)
})

func parseTime(raw json.RawMessage) (time.Time, error) {
	s, err := parseString(raw)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() || !dateTime().MatchString(s) {
		return time.Time{}, fmt.Errorf("want a time of RFC 3339 such as 2026-11-21T19:05:00Z, got %.80q", s)
	}
	return t.UTC(), nil
}
