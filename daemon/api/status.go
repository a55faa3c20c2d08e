package api

import "time"

// Status is the state of a running daemon, as `fieldpost status --json` prints
// it. Keys may be added; none changes its meaning or goes. Times are RFC 3339
// in UTC and as true as the clock is now; a key that ends in _s is in seconds.
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
	Outputs     []Output    `json:"outputs"` // likewise
	Faults      []Fault     `json:"faults"`  // by subject; none when all is well
}

// Link is the connection to the broker.
type Link struct {
	Connected    bool       `json:"connected"`
	Since        time.Time  `json:"since"` // since when it is, or is not
	For          float64    `json:"for_s"`
	Endpoint     string     `json:"endpoint"`
	ClientID     string     `json:"client_id"`
	Denied       []string   `json:"denied,omitempty"`  // subscriptions that the broker does not allow
	Next         time.Time  `json:"next_try,omitzero"` // absent while an attempt is under way
	LastError    *LinkError `json:"last_error,omitempty"`
	Acknowledged uint64     `json:"acknowledged"` // messages, since the start; a batch is one
	// SessionsLost is how often the broker has forgotten our session since the
	// start, and with it the orders that it may have kept for us.
	SessionsLost uint64 `json:"sessions_lost"`
	// Dropped counts messages from the broker that were too large, or for which there
	// was no room, since the start.
	Dropped uint64 `json:"dropped"`
	// Ping is how often a ping goes because connections are given up, by a proxy or
	// a NAT, on which nothing has been sent for Idle; absent where they are not.
	Ping float64 `json:"ping_s,omitzero"`
	Idle float64 `json:"idle_timeout_s,omitzero"`
}

// LinkError is what was last wrong with the connection.
type LinkError struct {
	Code string    `json:"code"`
	Text string    `json:"text"`
	Hint string    `json:"hint"`
	Time time.Time `json:"time"` // when it was first seen
	Over bool      `json:"over"` // it is no longer so
}

// Certificate is our certificate.
type Certificate struct {
	File    string    `json:"file"`
	Expires time.Time `json:"expires,omitzero"`
	Error   string    `json:"error,omitempty"` // why that is not known, or only as it was before
}

// Spool is the mail that waits.
type Spool struct {
	ID       string  `json:"id"`       // what messages of this run call it
	Writable bool    `json:"writable"` // as far as is known
	Waiting  int     `json:"waiting"`  // records that the broker has not acknowledged
	Oldest   float64 `json:"oldest_s"` // 0 where none waits, or that is not known
	AtRisk   int     `json:"at_risk"`  // of those waiting, what a power cut now would cost
	Bytes    int64   `json:"bytes"`    // on disk
	MaxBytes int64   `json:"max_bytes"`
	Acked    uint64  `json:"acknowledged"` // records that the broker has acknowledged since the start
	Dropped  uint64  `json:"dropped"`      // records given up since the start, for want of room or for their age
	Refused  uint64  `json:"refused"`      // records set aside since the start
}

// Orders counts what became of orders, and of messages that were none, since
// the start.
type Orders struct {
	Topic   string `json:"topic,omitempty"` // on which they come by MQTT; absent where none do
	Done    uint64 `json:"done"`
	Refused uint64 `json:"refused"`
	Failed  uint64 `json:"failed"` // or nobody knows
	Again   uint64 `json:"again"`  // orders that came again, and were answered as before
	Passed  uint64 `json:"passed"` // messages on the topic that were no orders to this board
	// Elsewhere counts messages that came on another topic, and were passed over.
	Elsewhere uint64 `json:"elsewhere"`
	// Unanswered counts those among Refused and Again that were told by number
	// only, because so many came.
	Unanswered uint64 `json:"unanswered"`
}

// Sensor is one sensor.
type Sensor struct {
	Name   string    `json:"name"`
	Chip   string    `json:"chip"`
	Time   time.Time `json:"time,omitzero"` // of the last reading or edge; absent where there is none
	Age    float64   `json:"age_s,omitzero"`
	Seq    uint64    `json:"seq,omitzero"`
	Values Values    `json:"values,omitempty"`
	Faults []string  `json:"faults,omitempty"` // codes
	// Bus and Address are where a chip on I2C is, as configured; absent for others.
	Bus     string `json:"bus,omitempty"`
	Address uint64 `json:"address,omitzero"`
}

// Output is one output.
type Output struct {
	Name  string    `json:"name"`
	State string    `json:"state,omitempty"` // on or off; absent where the line was never ours
	Since time.Time `json:"since,omitzero"`
	For   float64   `json:"for_s,omitzero"`
	Cause string    `json:"cause,omitempty"` // who or what gave it that state
	Order string    `json:"order,omitempty"` // the id of the order behind it
	// RefreshLost is how often since the start it was made safe because no order
	// came for its refresh; absent where it was not.
	RefreshLost uint64   `json:"refresh_lost,omitempty"`
	Error       string   `json:"error,omitempty"` // why the line cannot be driven or trusted now
	Faults      []string `json:"faults,omitempty"`
}

// Fault is one thing that is wrong.
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
	// Because is the fault that explains this one, so that this one is not told;
	// absent where it stands for itself.
	Because *Cause `json:"because,omitempty"`
}

// Cause is a fault that explains another.
type Cause struct {
	Code    string `json:"code"`
	Subject string `json:"subject"`
}
