package output

import (
	"errors"
	"fmt"
)

// Level is an output's logical level.
type Level bool

// The two levels.
const (
	Off Level = false
	On  Level = true
)

// String gives on or off.
func (l Level) String() string {
	if l {
		return "on"
	}
	return "off"
}

// MarshalText gives on or off.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText accepts on, off, true and false.
func (l *Level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "on", "true":
		*l = On
	case "off", "false":
		*l = Off
	default:
		return errors.New("want on or off")
	}
	return nil
}

// Safe is what becomes of an output when nobody watches over it.
type Safe uint8

// The ways of being safe.
const (
	SafeOff  Safe = iota // it goes off
	SafeOn               // it goes on
	SafeKeep             // it stays as it is: nobody drives it to any level
)

// Level gives the safe level; ok is false where there is none.
func (s Safe) Level() (l Level, ok bool) { return s == SafeOn, s != SafeKeep }

var safeNames = []string{SafeOff: "off", SafeOn: "on", SafeKeep: "keep"}

// String gives off, on or keep.
func (s Safe) String() string { return word(safeNames, s) }

// MarshalText gives off, on or keep.
func (s Safe) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts off, on, keep, and true and false.
func (s *Safe) UnmarshalText(b []byte) error { return read(safeNames, b, s) }

// Initial is the level with which a line is requested.
type Initial uint8

// The initial levels.
const (
	InitialOff  Initial = iota // off
	InitialOn                  // on
	InitialLast                // what the output was when the run before ended
	InitialKeep                // what the line is when it is requested
)

var initialNames = []string{InitialOff: "off", InitialOn: "on", InitialLast: "last", InitialKeep: "keep"}

// String gives off, on, last or keep.
func (i Initial) String() string { return word(initialNames, i) }

// MarshalText gives off, on, last or keep.
func (i Initial) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText accepts off, on, last, keep, and true and false.
func (i *Initial) UnmarshalText(b []byte) error { return read(initialNames, b, i) }

func word[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown level %d", v)
}

// read takes one of the names, the first two of which are off and on.
func read[T ~uint8](names []string, b []byte, v *T) error {
	text := string(b)
	switch text {
	case "false":
		text = "off"
	case "true":
		text = "on"
	}
	for i, n := range names {
		if n == text {
			*v = T(i)
			return nil
		}
	}
	if len(names) == 3 {
		return errors.New("want off, on or keep")
	}
	return errors.New("want off, on, last or keep")
}
