package daemon

import (
	"errors"
	"math"
	"os"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// Report is the state of a running daemon, as `fieldpost status --json` prints
// it. Keys may be added; none changes its meaning or goes. Times are RFC 3339
// in UTC and as true as the clock is now; a key that ends in _s is in seconds.
type Report struct {
	Thing       string            `json:"thing"`
	Version     string            `json:"version"` // the program's
	PID         int               `json:"pid"`
	Board       string            `json:"board"`
	Run         uint64            `json:"run"`
	Time        time.Time         `json:"time"` // when this was reported
	Started     time.Time         `json:"started"`
	Uptime      float64           `json:"uptime_s"`
	ClockSynced bool              `json:"clock_synchronised"`
	Link        LinkReport        `json:"link"`
	Certificate CertificateReport `json:"certificate"`
	Spool       SpoolReport       `json:"spool"`
	Orders      OrdersReport      `json:"orders"`
	Sensors     []SensorReport    `json:"sensors"` // in the configuration's order
	Outputs     []OutputReport    `json:"outputs"` // likewise
	Faults      []FaultReport     `json:"faults"`  // by subject; none when all is well
}

// LinkReport is the connection to the broker.
type LinkReport struct {
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

// CertificateReport is our certificate.
type CertificateReport struct {
	File    string    `json:"file"`
	Expires time.Time `json:"expires,omitzero"`
	Error   string    `json:"error,omitempty"` // why that is not known, or only as it was before
}

// SpoolReport is the mail that waits.
type SpoolReport struct {
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

// OrdersReport counts what became of orders, and of messages that were none, since
// the start.
type OrdersReport struct {
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

// SensorReport is one sensor.
type SensorReport struct {
	Name   string    `json:"name"`
	Chip   string    `json:"chip"`
	Time   time.Time `json:"time,omitzero"` // of the last reading or edge; absent where there is none
	Age    float64   `json:"age_s,omitzero"`
	Seq    uint64    `json:"seq,omitzero"`
	Values Values    `json:"values,omitempty"`
	Faults []string  `json:"faults,omitempty"` // codes
}

// OutputReport is one output.
type OutputReport struct {
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

// FaultReport is one thing that is wrong.
type FaultReport struct {
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
	Because *CauseReport `json:"because,omitempty"`
}

// CauseReport is a fault that explains another.
type CauseReport struct {
	Code    string `json:"code"`
	Subject string `json:"subject"`
}

// lastSeen keeps each sensor's last reading or edge.
type lastSeen struct {
	mu     sync.Mutex
	record map[string]message.Record
}

func (l *lastSeen) put(r message.Record) {
	if r.Kind != message.Reading && r.Kind != message.Edge {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.record == nil {
		l.record = map[string]message.Record{}
	}
	l.record[r.Sensor] = r
}

func (l *lastSeen) of(sensor string) (r message.Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok = l.record[sensor]
	return r, ok
}

// report gives the present state. It waits for no line, bus or disk. Any
// goroutine.
func (d *Daemon) report() Report {
	now := d.o.Clock.Now()
	faults := d.health.Current()
	return Report{
		Thing: d.o.Config.Thing, Version: d.o.Version, PID: os.Getpid(), Board: d.o.Board.String(), Run: d.spool.RunNumber(),
		Time: brief(now.Wall), Started: when(d.started, now), Uptime: seconds(now.Mono - d.started.Mono), ClockSynced: now.Synced,
		Link: d.reportLink(now), Certificate: d.reportCertificate(), Spool: d.reportSpool(),
		Orders: d.reportOrders(), Sensors: d.reportSensors(now, faults), Outputs: d.reportOutputs(now, faults), Faults: reportFaults(now, faults),
	}
}

func (d *Daemon) reportLink(now clock.Stamp) LinkReport {
	s := d.link.Status()
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	since := d.watch.since
	if since == (clock.Stamp{}) { // it has not said anything yet
		since = d.started
	}
	r := LinkReport{
		Connected: s.Connected, Since: when(since, now), For: seconds(now.Mono - since.Mono),
		Endpoint: s.Endpoint, ClientID: s.ClientID, Denied: s.Denied, Acknowledged: s.Published,
		SessionsLost: s.SessionsLost, Dropped: s.Dropped, Ping: seconds(s.PingEvery), Idle: seconds(s.IdleTimeout),
	}
	if !s.Next.IsZero() {
		r.Next = brief(now.Wall.Add(time.Until(s.Next)))
	}
	if err := d.watch.lastErr; err != nil {
		r.LastError = &LinkError{Code: string(health.NetworkDown), Text: err.Error(), Time: when(d.watch.errAt, now), Over: s.Err == nil}
		var e *uplink.Explained
		if errors.As(err, &e) {
			r.LastError.Code, r.LastError.Hint = e.Code, e.Hint
		}
	}
	return r
}

// reportCertificate has the file read anew, but does not wait for long: the
// disk may hang.
func (d *Daemon) reportCertificate() (r CertificateReport) {
	if d.files.Pending() < time.Second {
		t := time.NewTimer(time.Second)
		defer t.Stop()
		select {
		case <-d.files.Refresh():
		case <-t.C:
		}
	}
	var err error
	r.File = d.o.Config.Broker.Certificate
	if r.Expires, err = d.files.Expires(); err != nil {
		r.Error = err.Error()
	}
	return r
}

func (d *Daemon) reportSpool() SpoolReport {
	st, b := d.spool.Stats(), d.spool.Backlog()
	return SpoolReport{
		ID: d.spool.Source().Spool, Writable: st.Disk, Waiting: b.Records, Oldest: seconds(b.Oldest), AtRisk: b.AtRisk,
		Bytes: st.Bytes, MaxBytes: d.o.Config.Spool.MaxBytes, Acked: st.Acked, Dropped: st.Dropped, Refused: st.Refused,
	}
}

func (d *Daemon) reportOrders() OrdersReport {
	st := d.desk.Stats()
	return OrdersReport{
		Topic: d.ordersTopic(), Done: st.Done, Refused: st.Refused, Failed: st.Failed,
		Again: st.Again, Passed: st.Passed, Elsewhere: st.Elsewhere, Unanswered: st.Unanswered,
	}
}

func (d *Daemon) reportSensors(now clock.Stamp, faults []health.Explained) []SensorReport {
	all := make([]SensorReport, 0, len(d.o.Config.Sensors))
	for _, c := range d.o.Config.Sensors {
		r := SensorReport{Name: c.Name, Chip: c.Chip, Faults: codesOf(c.Name, faults)}
		if last, ok := d.seen.of(c.Name); ok {
			r.Time, r.Age, r.Seq, r.Values = when(last.Stamp, now), lasted(now.Mono-last.Stamp.Mono), last.Seq, last.Fields
		}
		all = append(all, r)
	}
	return all
}

func (d *Daemon) reportOutputs(now clock.Stamp, faults []health.Explained) []OutputReport {
	states := d.bank.States()
	all := make([]OutputReport, 0, len(states))
	for _, s := range states {
		r := OutputReport{Name: s.Name, RefreshLost: s.Trips, Faults: codesOf(s.Name, faults)}
		if s.Err != nil {
			r.Error = s.Err.Error()
		}
		if !s.Since.IsZero() {
			age := time.Since(s.Since)
			r.State, r.Since, r.For = s.Level.String(), brief(now.Wall.Add(-age)), lasted(age)
			r.Cause, r.Order = s.Cause, s.Order
		}
		all = append(all, r)
	}
	return all
}

func reportFaults(now clock.Stamp, faults []health.Explained) []FaultReport {
	all := make([]FaultReport, 0, len(faults))
	for _, c := range faults {
		age := time.Since(c.Since)
		r := FaultReport{
			Code: string(c.Fault.Code), Subject: c.Subject, Title: c.Fault.Title, Detail: c.Detail, Meaning: c.Fault.Meaning, Hint: c.Cure,
			Since: brief(now.Wall.Add(-age)), For: seconds(age), Error: c.Fault.Severity == health.Error,
		}
		if c.By != nil {
			r.Because = &CauseReport{Code: string(c.By.Fault.Code), Subject: c.By.Subject}
		}
		all = append(all, r)
	}
	return all
}

// codesOf gives the codes of the faults of one subject.
func codesOf(subject string, faults []health.Explained) (codes []string) {
	for _, c := range faults {
		if c.Subject == subject {
			codes = append(codes, string(c.Fault.Code))
		}
	}
	return codes
}

// when gives a moment's wall time, as well as is known by now.
func when(then, now clock.Stamp) time.Time { return brief(clock.Fill(then, now).Wall) }

// brief is a time to the millisecond, in UTC.
func brief(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// seconds gives a duration to the millisecond, never less than nothing.
func seconds(d time.Duration) float64 { return max(0, math.Round(d.Seconds()*1000)/1000) }

// lasted is like seconds, but never nothing, which would look as if there were
// no such time.
func lasted(d time.Duration) float64 { return max(0.001, seconds(d)) }
