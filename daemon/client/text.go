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

// AnswerText gives the answer to an order for people, without its id.
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

// PrintReading writes a reading's values for people, one a line. The error is w's.
func PrintReading(w io.Writer, r api.Reading) error {
	_, err := fmt.Fprintln(w, strings.Join(texts(r.Values, r.Chip, r.Units), "\n"))
	return err
}

// PrintReconnect writes what became of an attempt to connect for people, but for
// what is wrong; see [ReconnectError]. The error is w's.
func PrintReconnect(w io.Writer, a api.ReconnectAnswer) error {
	state := "not connected"
	if a.Connected {
		state = "connected"
	}
	_, err := fmt.Fprintf(w, "%s to %s as %s\n", state, a.Endpoint, a.ClientID)
	return err
}

// ReconnectError says what is wrong after an attempt to connect, as an
// [*uplink.Explained]; nil where nothing is.
func ReconnectError(a api.ReconnectAnswer) error {
	if a.Code == "" {
		return nil
	}
	return &uplink.Explained{Code: a.Code, What: a.Text, Hint: a.Hint}
}

// texts gives each value for people, with its unit, or else that of its chip.
func texts(v api.Values, chip string, units map[string]string) []string {
	c, _ := sensors.Lookup(chip)
	var parts []string
	for _, f := range v {
		symbol := c.Symbol(f.Name)
		if unit, other := units[f.Name]; other {
			symbol = sensors.Quantity{Unit: visible.Text(unit)}.Symbol()
		}
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Name, plain(f.Value), symbol)))
	}
	return parts
}

// plain writes a value as in a message, a text without quotes.
func plain(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.Trim(string(b), `"`)
}
