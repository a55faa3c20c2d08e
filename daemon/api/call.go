package api

import "time"

// Order is an order to an output, on the socket as by MQTT.
type Order struct {
	ID      string    `json:"id,omitempty"`     // acts once, however often it comes; only an order to the safe level may lack it
	Thing   string    `json:"thing,omitempty"`  // the board it is for; "" is the one that gets it
	Output  string    `json:"output"`           // its name in the configuration
	Action  string    `json:"action"`           // on, off, toggle, pulse
	For     string    `json:"for,omitempty"`    // how long, as in "30s"; "" is without an end
	Expires time.Time `json:"expires,omitzero"` // it is refused from then on; only an order to the safe level may lack it
}

// OrderAnswer is what became of an order.
type OrderAnswer struct {
	ID     string `json:"id"`
	Status string `json:"status"` // done, refused, failed, unknown
	Output string `json:"output,omitempty"`
	State  string `json:"state,omitempty"` // the output's now: on or off
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// ReadRequest asks for a reading.
type ReadRequest struct {
	Thing  string `json:"thing,omitempty"` // the board it is on; "" is the one that gets the request
	Sensor string `json:"sensor"`
}

// Reading is a sensor's values as they are now.
type Reading struct {
	Sensor      string    `json:"sensor"`
	Chip        string    `json:"chip"`
	Time        time.Time `json:"time"`
	ClockSynced bool      `json:"clock_synchronised"` // the time is known to be true
	Values      Values    `json:"values"`
}

// ReconnectRequest asks that the link connects now.
type ReconnectRequest struct {
	Thing string `json:"thing,omitempty"` // the board; "" is the one that gets the request
}

// ReconnectAnswer is what became of an attempt to connect.
type ReconnectAnswer struct {
	Connected bool   `json:"connected"`
	Endpoint  string `json:"endpoint"`
	ClientID  string `json:"client_id"`
	// What is wrong, or amiss although it is connected; empty where nothing is.
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
	Hint string `json:"hint,omitempty"`
}

// RenewRequest asks that the certificate is renewed now.
type RenewRequest struct {
	Thing string `json:"thing,omitempty"` // the board; "" is the one that gets the request
}

// RenewAnswer is the certificate that is in use after a renewal.
type RenewAnswer struct {
	File    string    `json:"file"`
	Expires time.Time `json:"expires"`
}

// What becomes of a sensor or an output in a reload.
const (
	Kept     = "kept"     // goes on untouched
	Adjusted = "adjusted" // an output whose line stays as it is, with other times or interlocks
	Changed  = "changed"  // a sensor is closed and opened again; an output is driven safe, released and requested at its initial level
	Removed  = "removed"  // an output is driven safe and released
	Added    = "added"    // an output is requested at its initial level
)

// Changes is what a reload has changed, or would change.
type Changes struct {
	File       string    `json:"file"`                 // the configuration file
	Sensors    []Change  `json:"sensors,omitempty"`    // all, those that are gone too
	Outputs    []Change  `json:"outputs,omitempty"`    // the same; left out if no output changes
	Settings   []Setting `json:"settings,omitempty"`   // every other key that changes
	Reconnects []string  `json:"reconnects,omitempty"` // the settings that need a new connection; left out if it stays
	Slow       []string  `json:"slow,omitempty"`       // the parts of the daemon that do not use the configuration yet, because something hangs, and will
}

// Change is what becomes of a sensor or an output.
type Change struct {
	Name   string `json:"name"`
	Change string `json:"change"` // kept, changed, removed, added; of an output also adjusted
}

// Setting is a key that has another value.
type Setting struct {
	Key    string `json:"key"`
	Before string `json:"before"`
	After  string `json:"after"`
}
