package api

import "time"

// Status is the state of a running daemon, as `fieldpost status --json` prints
// it. Keys may be added; none is removed or changes its meaning. Times are RFC 3339
// in UTC, by the clock as it is now; keys that end in _s are in seconds.
type Status struct {
	Thing       string      `json:"thing"`
	Version     string      `json:"version"` // the program's
	PID         int         `json:"pid"`
	Board       string      `json:"board"`
	Run         uint64      `json:"run"`
	Time        time.Time   `json:"time"` // when this was reported
	Started     time.Time   `json:"started"`
	Uptime      float64     `json:"uptime_s"`
	ClockSynced bool        `json:"clock_synchronised"`
	Link        Link        `json:"link"`
	Certificate Certificate `json:"certificate"`
	Spool       Spool       `json:"spool"`
	Orders      Orders      `json:"orders"`
	Sensors     []Sensor    `json:"sensors"` // in the configuration's order
	Outputs     []Output    `json:"outputs"` // in the configuration's order
	Faults      []Fault     `json:"faults"`  // by subject; empty if nothing is wrong
}

// Link is the connection to the broker.
type Link struct {
	Connected    bool       `json:"connected"`
	Since        time.Time  `json:"since"` // since when it has been connected, or has not
	For          float64    `json:"for_s"`
	Endpoint     string     `json:"endpoint"`
	ClientID     string     `json:"client_id"`
	Denied       []string   `json:"denied,omitempty"`  // subscriptions that the broker does not allow
	Next         time.Time  `json:"next_try,omitzero"` // absent while an attempt is under way
	LastError    *LinkError `json:"last_error,omitempty"`
	Acknowledged uint64     `json:"acknowledged"` // messages, since the start; a batch is one
	Connects     uint64     `json:"connects"`     // connections that were made since the start
	// Attempts counts the attempts to connect since the last connection ended; absent while
	// it is connected.
	Attempts int `json:"attempts,omitzero"`
	// SessionsLost is how often since the start the broker lost our session, and with
	// it any orders that it had stored for us.
	SessionsLost uint64 `json:"sessions_lost"`
	// Dropped counts messages from the broker since the start that were too large, or for
	// which there was no room.
	Dropped uint64 `json:"dropped"`
	// Ping is the interval of pings if a proxy or a NAT drops connections on which
	// nothing was sent for Idle; absent if none does.
	Ping float64 `json:"ping_s,omitzero"`
	Idle float64 `json:"idle_timeout_s,omitzero"`
}

// LinkError is the last problem of the connection.
type LinkError struct {
	Code string    `json:"code"`
	Text string    `json:"text"`
	Hint string    `json:"hint"`
	Time time.Time `json:"time"` // when it was first seen
	Over bool      `json:"over"` // the problem is solved
}

// Certificate is the board's certificate.
type Certificate struct {
	File    string    `json:"file"`
	Expires time.Time `json:"expires,omitzero"`
	Error   string    `json:"error,omitempty"` // why expires is unknown, or may be out of date
}

// Spool is the state of the queue of messages.
type Spool struct {
	ID       string  `json:"id"`       // the value of spool in this run's messages
	Writable bool    `json:"writable"` // as far as is known
	Waiting  int     `json:"waiting"`  // records that the broker has not acknowledged
	Oldest   float64 `json:"oldest_s"` // age of the oldest; 0 if none waits, or if it is unknown
	AtRisk   int     `json:"at_risk"`  // how many of those waiting a power cut would lose now
	Bytes    int64   `json:"bytes"`    // on disk
	MaxBytes int64   `json:"max_bytes"`
	Acked    uint64  `json:"acknowledged"` // records that the broker has acknowledged since the start
	Dropped  uint64  `json:"dropped"`      // records dropped since the start, because of their age or a full spool
	Refused  uint64  `json:"refused"`      // records set aside since the start
	Gaps     uint64  `json:"gaps"`         // gap messages recorded since the start
}

// Orders counts the results of orders since the start, and messages that were not orders
// for this board.
type Orders struct {
	Topic   string `json:"topic,omitempty"` // their MQTT topic; absent if orders do not come over MQTT
	Done    uint64 `json:"done"`
	Refused uint64 `json:"refused"`
	Failed  uint64 `json:"failed"` // including those whose result is unknown
	Again   uint64 `json:"again"`  // repeated orders, answered as before
	Passed  uint64 `json:"passed"` // messages on the topic that were not orders for this board
	// Elsewhere counts messages on other topics, which were ignored.
	Elsewhere uint64 `json:"elsewhere"`
	// Unanswered counts those of Refused and Again that were not answered one by one,
	// because there were too many.
	Unanswered uint64 `json:"unanswered"`
}

// Sensor is one sensor.
type Sensor struct {
	Name   string    `json:"name"`
	Chip   string    `json:"chip"`
	Time   time.Time `json:"time,omitzero"` // of the last reading or edge; absent if there is none
	Age    float64   `json:"age_s,omitzero"`
	Seq    uint64    `json:"seq,omitzero"`
	Values Values    `json:"values,omitempty"`
	Faults []string  `json:"faults,omitempty"` // codes
	// FailedReads counts the scheduled reads that failed, each after a second attempt, since
	// the sensor was configured as it is now; absent if none has.
	FailedReads uint64 `json:"failed_reads,omitzero"`
	// Units are the UCUM codes of values that its filters have named or derived.
	Units map[string]string `json:"units,omitempty"`
	// Bus and Address are those of an I2C chip, as configured; absent for other chips.
	Bus     string `json:"bus,omitempty"`
	Address uint64 `json:"address,omitzero"`
}

// Output is one output.
type Output struct {
	Name  string    `json:"name"`
	State string    `json:"state,omitempty"` // on or off; absent if the daemon has never had the line
	Level *float64  `json:"level,omitempty"` // of a PWM output, in percent; where a ramp leads
	Since time.Time `json:"since,omitzero"`
	For   float64   `json:"for_s,omitzero"`
	Cause string    `json:"cause,omitempty"` // who or what caused this state
	Order string    `json:"order,omitempty"` // the id of the order that caused it
	// RefreshLost is how often since the start the output was made safe because no order
	// came within refresh; absent if never.
	RefreshLost uint64   `json:"refresh_lost,omitempty"`
	Error       string   `json:"error,omitempty"` // why the line cannot be driven, or its state is unknown
	Faults      []string `json:"faults,omitempty"`
}

// Fault is one fault that is raised now.
type Fault struct {
	Code    string    `json:"code"`
	Subject string    `json:"subject"` // the sensor, output or part
	Title   string    `json:"title"`
	Detail  string    `json:"detail"`
	Meaning string    `json:"meaning"`
	Hint    string    `json:"hint"`
	Since   time.Time `json:"since"`
	For     float64   `json:"for_s"`
	Error   bool      `json:"error"` // a person must act
	// Because is the fault that caused this one, which is therefore not reported; absent
	// if there is none.
	Because *Cause `json:"because,omitempty"`
}

// Cause is the fault that caused another one.
type Cause struct {
	Code    string `json:"code"`
	Subject string `json:"subject"`
}
