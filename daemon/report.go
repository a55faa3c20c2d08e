package daemon

import (
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/filter"
)

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

// keep forgets all sensors but these.
func (l *lastSeen) keep(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.record, func(name string, _ message.Record) bool { return !slices.Contains(names, name) })
}

func (l *lastSeen) of(sensor string) (r message.Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok = l.record[sensor]
	return r, ok
}

// report gives the present state. It waits for no line, bus or disk. Any
// goroutine.
func (d *Daemon) report() api.Status { return d.reportWith(d.reportCertificate()) }

// reportWith is report with what is known of the certificate. Any goroutine.
func (d *Daemon) reportWith(certificate api.Certificate) api.Status {
	now := d.o.Clock.Now()
	faults := d.health.Current()
	return api.Status{
		Thing: d.config().Thing, Version: d.o.Version, PID: os.Getpid(), Board: d.o.Board.String(), Run: d.spool.RunNumber(),
		Time: api.Time(now.Wall), Started: when(d.started, now), Uptime: api.Seconds(now.Mono - d.started.Mono), ClockSynced: now.Synced,
		Link: d.reportLink(now), Certificate: certificate, Spool: d.reportSpool(),
		Orders: d.reportOrders(), Sensors: d.reportSensors(now, faults), Outputs: d.reportOutputs(now, faults), Faults: reportFaults(now, faults),
	}
}

func (d *Daemon) reportLink(now clock.Stamp) api.Link {
	s := d.link.Status()
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	since := d.watch.since
	if since == (clock.Stamp{}) { // it has not said anything yet
		since = d.started
	}
	r := api.Link{
		Connected: s.Connected, Since: when(since, now), For: api.Seconds(now.Mono - since.Mono),
		Endpoint: s.Endpoint, ClientID: s.ClientID, Denied: s.Denied, Acknowledged: s.Published, Connects: s.Connects, Attempts: s.Attempts,
		SessionsLost: s.SessionsLost, Dropped: s.Dropped, Ping: api.Seconds(s.PingEvery), Idle: api.Seconds(s.IdleTimeout),
	}
	if !s.Next.IsZero() {
		r.Next = api.Time(now.Wall.Add(time.Until(s.Next)))
	}
	if err := d.watch.lastErr; err != nil {
		r.LastError = &api.LinkError{Code: string(health.NetworkDown), Text: err.Error(), Time: when(d.watch.errAt, now), Over: s.Err == nil}
		var e *uplink.Explained
		if errors.As(err, &e) {
			r.LastError.Code, r.LastError.Hint = e.Code, e.Hint
		}
	}
	return r
}

// reportCertificate has the file read again, but does not wait for long: the
// disk may hang.
func (d *Daemon) reportCertificate() api.Certificate {
	if d.generation().files.Pending() < time.Second {
		t := time.NewTimer(time.Second)
		defer t.Stop()
		select {
		case <-d.generation().files.Refresh():
		case <-t.C:
		}
	}
	return certificateKnown(d.generation())
}

// certificateKnown returns what is known of a generation's certificate, as it was read last.
func certificateKnown(g *generation) (r api.Certificate) {
	var err error
	r.File = g.config.Broker.Certificate
	if r.Expires, err = g.files.Expires(); err != nil {
		r.Error = err.Error()
	}
	return r
}

func (d *Daemon) reportSpool() api.Spool {
	st, b := d.spool.Stats(), d.spool.Backlog()
	return api.Spool{
		ID: d.spool.Source().Spool, Writable: st.Disk, Waiting: b.Records, Oldest: api.Seconds(b.Oldest), AtRisk: b.AtRisk,
		Bytes: st.Bytes, MaxBytes: d.config().Spool.MaxBytes, Acked: st.Acked, Dropped: st.Dropped, Refused: st.Refused, Gaps: st.Gaps,
	}
}

func (d *Daemon) reportOrders() api.Orders {
	st := d.dispatcher.Stats()
	return api.Orders{
		Topic: d.generation().ordersTopic(), Done: st.Done, Refused: st.Refused, Failed: st.Failed,
		Again: st.Again, Passed: st.Passed, Elsewhere: st.Elsewhere, Unanswered: st.Unanswered,
	}
}

func (d *Daemon) reportSensors(now clock.Stamp, faults []health.Explained) []api.Sensor {
	all, failed := make([]api.Sensor, 0, len(d.config().Sensors)), d.sampler.FailedReads()
	for _, c := range d.config().Sensors {
		r := api.Sensor{Name: c.Name, Chip: c.Chip, Faults: codesOf(c.Name, faults), Bus: c.Place().Bus, Address: uint64(c.Place().Address), Units: filter.Units(c), FailedReads: failed[c.Name]}
		if last, ok := d.seen.of(c.Name); ok {
			r.Time, r.Age, r.Seq, r.Values = when(last.Stamp, now), api.Lasted(now.Mono-last.Stamp.Mono), last.Seq, last.Fields
		}
		all = append(all, r)
	}
	return all
}

func (d *Daemon) reportOutputs(now clock.Stamp, faults []health.Explained) []api.Output {
	states := d.bank.States()
	all := make([]api.Output, 0, len(states))
	for _, s := range states {
		r := api.Output{Name: s.Name, RefreshLost: s.Trips, Faults: codesOf(s.Name, faults)}
		if s.Err != nil {
			r.Error = s.Err.Error()
		}
		if !s.Since.IsZero() {
			age := time.Since(s.Since)
			if s.PWM {
				level := s.Level.Percent()
				r.Level = &level
			}
			r.State, r.Since, r.For = s.Level.Word(), api.Time(now.Wall.Add(-age)), api.Lasted(age)
			r.Cause, r.Order = s.Cause, s.Order
		}
		all = append(all, r)
	}
	return all
}

func reportFaults(now clock.Stamp, faults []health.Explained) []api.Fault {
	all := make([]api.Fault, 0, len(faults))
	for _, c := range faults {
		age := time.Since(c.Since)
		r := api.Fault{
			Code: string(c.Fault.Code), Subject: c.Subject, Title: c.Fault.Title, Detail: c.Detail, Meaning: c.Fault.Meaning, Hint: c.Cure,
			Since: api.Time(now.Wall.Add(-age)), For: api.Seconds(age), Error: c.Fault.Severity == health.Error,
		}
		if c.By != nil {
			r.Because = &api.Cause{Code: string(c.By.Fault.Code), Subject: c.By.Subject}
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
func when(then, now clock.Stamp) time.Time { return api.Time(clock.Fill(then, now).Wall) }
