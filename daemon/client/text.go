package client

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"fieldpost/daemon/api"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
	"fieldpost/sensors"
)

// AnswerText formats the answer to an order for people, without its id.
func AnswerText(a api.OrderAnswer) string {
	s := visible.Text(a.Status)
	if a.State != "" {
		s += ", " + visible.Text(a.Output) + " is " + visible.Text(a.State)
	}
	if a.Reason != "" {
		s += ": " + visible.Text(a.Reason)
	}
	if a.Hint != "" {
		s += " (" + visible.Text(a.Hint) + ")"
	}
	return s
}

// PrintReading writes a reading's values for people, one per line. The error is w's.
func PrintReading(w io.Writer, r api.Reading) error {
	_, err := fmt.Fprintln(w, strings.Join(texts(r.Values, r.Chip, r.Units), "\n"))
	return err
}

// PrintReconnect writes the outcome of an attempt to connect for people. It does not write
// the reason of a failure; [ReconnectError] returns that. The error is w's.
func PrintReconnect(w io.Writer, a api.ReconnectAnswer) error {
	state := "not connected"
	if a.Connected {
		state = "connected"
	}
	_, err := fmt.Fprintf(w, "%s to %s as %s\n", state, a.Endpoint, a.ClientID)
	return err
}

// ReconnectError returns why an attempt to connect failed, as an [*uplink.Explained], or nil
// if it did not.
func ReconnectError(a api.ReconnectAnswer) error {
	if a.Code == "" {
		return nil
	}
	return &uplink.Explained{Code: a.Code, What: a.Text, Hint: a.Hint}
}

// texts formats each value for people, with its unit. A unit in units replaces the one that
// the chip has for this value.
func texts(v api.Values, chip string, units map[string]string) []string {
	var parts []string
	for _, f := range v {
		parts = append(parts, strings.TrimSpace(f.Name+" "+plain(f.Value)+" "+symbol(f.Name, chip, units)))
	}
	return parts
}

// symbol returns the unit of a value for people: the one in units, or else that of its chip.
func symbol(name, chip string, units map[string]string) string {
	if unit, other := units[name]; other {
		return sensors.Quantity{Unit: visible.Text(unit)}.Symbol()
	}
	c, _ := sensors.Lookup(chip)
	return c.Symbol(name)
}

// plain formats a value as in a message, but a string without quotes.
func plain(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.Trim(string(b), `"`)
}
