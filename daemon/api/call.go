package api

import "time"

// Order is an order to an output. It has the same form over MQTT.
type Order struct {
	ID      string    `json:"id,omitempty"`     // an id acts only once; optional for an order to the safe level
	Thing   string    `json:"thing,omitempty"`  // the board it is for; "" means the board that receives it
	Output  string    `json:"output"`           // its name in the configuration
	Action  string    `json:"action,omitempty"` // on, off, toggle, pulse, set; with a level it may be absent
	Level   *float64  `json:"level,omitempty"`  // of the action set, in percent from 0 to 100; between these only for a PWM output
	For     string    `json:"for,omitempty"`    // how long, as in "30s"; "" means without limit
	Expires time.Time `json:"expires,omitzero"` // from then on it is refused; optional for an order to the safe level
}

// OrderAnswer is the result of an order.
type OrderAnswer struct {
	ID     string   `json:"id"`
	Status string   `json:"status"` // done, refused, failed, unknown
	Output string   `json:"output,omitempty"`
	State  string   `json:"state,omitempty"` // of the output now: on or off
	Level  *float64 `json:"level,omitempty"` // of a PWM output now, in percent
	Reason string   `json:"reason,omitempty"`
	Hint   string   `json:"hint,omitempty"`
}

// ReadRequest asks for a reading.
type ReadRequest struct {
	Thing  string `json:"thing,omitempty"` // the board it is on; "" means the board that receives the request
	Sensor string `json:"sensor"`
}

// Reading is a sensor's values as they are now.
type Reading struct {
	Sensor      string    `json:"sensor"`
	Chip        string    `json:"chip"`
	Time        time.Time `json:"time"`
	ClockSynced bool      `json:"clock_synchronised"` // the time is known to be true
	Values      Values    `json:"values"`
	// Units are the UCUM codes of values that its filters have named or derived.
	Units map[string]string `json:"units,omitempty"`
}

// ReconnectRequest asks the daemon to connect now.
type ReconnectRequest struct {
	Thing string `json:"thing,omitempty"` // the board; "" means the board that receives the request
}

// ReconnectAnswer is the result of an attempt to connect.
type ReconnectAnswer struct {
	Connected bool   `json:"connected"`
	Endpoint  string `json:"endpoint"`
	ClientID  string `json:"client_id"`
	// What is wrong, also if it is connected; empty if nothing is.
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
	Hint string `json:"hint,omitempty"`
}

// RenewRequest asks the daemon to renew its certificate now.
type RenewRequest struct {
	Thing string `json:"thing,omitempty"` // the board; "" means the board that receives the request
}

// RenewAnswer is the certificate that is in use after a renewal.
type RenewAnswer struct {
	File    string    `json:"file"`
	Expires time.Time `json:"expires"`
}

// What a reload does to a sensor or an output.
const (
	Kept     = "kept"     // nothing happens to it
	Adjusted = "adjusted" // an output whose line stays as it is, with other times or interlocks
	Changed  = "changed"  // a sensor is closed and opened again; an output is driven safe, released and requested at its initial level
	Removed  = "removed"  // an output is driven safe and released
	Added    = "added"    // an output is requested at its initial level
)

// Changes is what a reload has changed, or would change.
type Changes struct {
	File       string    `json:"file"`                 // the configuration file
	Sensors    []Change  `json:"sensors,omitempty"`    // all, including removed ones
	Outputs    []Change  `json:"outputs,omitempty"`    // all, including removed ones; left out if no output changes
	Settings   []Setting `json:"settings,omitempty"`   // every other key that changes
	Reconnects []string  `json:"reconnects,omitempty"` // the settings that need a new connection; left out if it stays
	Slow       []string  `json:"slow,omitempty"`       // the parts of the daemon that do not use the configuration yet, because something hangs, and will
}

// Change says what a reload does to a sensor or an output.
type Change struct {
	Name   string `json:"name"`
	Change string `json:"change"` // kept, changed, removed, added; for an output also adjusted
}

// Setting is a key whose value changes.
type Setting struct {
	Key    string `json:"key"`
	Before string `json:"before"`
	After  string `json:"after"`
}
