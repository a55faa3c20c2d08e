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
