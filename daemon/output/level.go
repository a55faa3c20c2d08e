package output

import "errors"

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
