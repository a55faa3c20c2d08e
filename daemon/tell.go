package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/output"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// faultQueue holds changes of health until the daemon's own goroutine tells
// them: they may come from inside the spool, and telling needs the spool.
type faultQueue struct {
	mu    sync.Mutex
	held  []health.Change
	ready chan struct{} // buffered, signalled when held grew
}

func (q *faultQueue) put(c health.Change) {
	q.mu.Lock()
	q.held = append(q.held, c)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *faultQueue) take() []health.Change {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := q.held
	q.held = nil
	return held
}

// tellFaults tells what has changed since it was last called.
func (d *Daemon) tellFaults() {
	for _, c := range d.faults.take() {
		d.fault(c)
	}
}

// fault tells a change of health to the journal and, as a message, to the
// broker.
func (d *Daemon) fault(c health.Change) {
	subject := subjectField(d.o.Config, c.Subject)
	level := slog.LevelWarn
	switch {
	case !c.Raised:
		level = slog.LevelInfo
	case c.Fault.Error:
		level = slog.LevelError
	}
	hint := c.Fault.DoAt(placeOf(d.o.Config, c.Subject))
	attrs := []any{subject.Name, c.Subject, "code", string(c.Fault.Code), "state", c.State()}
	if c.Raised {
		attrs = append(attrs, "detail", c.Detail, "hint", hint)
	}
	text := c.Subject + ": " + c.Fault.Title
	if !c.Raised {
		text = c.Subject + ": no longer: " + c.Fault.Title
	}
	d.log.Log(context.Background(), level, text, attrs...)

	r := spool.Record{Kind: spool.Fault, Run: d.spool.RunNumber(), Stamp: d.o.Clock.Now()}
	if subject.Name == "sensor" {
		r.Sensor = c.Subject
	} else {
		r.Fields = append(r.Fields, subject)
	}
	r.Fields = append(r.Fields, sensors.Field{Name: "code", Value: string(c.Fault.Code)}, sensors.Field{Name: "state", Value: c.State()})
	if c.Raised {
		r.Fields = append(r.Fields, sensors.Field{Name: "detail", Value: c.Detail}, sensors.Field{Name: "hint", Value: hint})
	}
	d.take(r)
}

// subjectField says what a fault is about: a sensor, an output or a part.
func subjectField(cfg *config.Config, name string) sensors.Field {
	what := "part"
	switch {
	case slices.ContainsFunc(cfg.Sensors, func(s sensors.Config) bool { return s.Name == name }):
		what = "sensor"
	case slices.ContainsFunc(cfg.Outputs, func(o output.Config) bool { return o.Name == name }):
		what = "output"
	}
	return sensors.Field{Name: what, Value: name}
}

// placeOf says by what the subject of a fault is reached.
func placeOf(cfg *config.Config, subject string) health.Place {
	for _, s := range cfg.Sensors {
		switch {
		case s.Name != subject:
		case s.Place().Bus != "":
			return health.OnBus
		case s.Place().Pin != "":
			return health.OnLine
		case s.Place().Device != "":
			return health.OfKernel
		default:
			return health.InZone
		}
	}
	if slices.ContainsFunc(cfg.Outputs, func(o output.Config) bool { return o.Name == subject }) {
		return health.OnLine
	}
	return ""
}

// linkWatch is what was last told about the link.
type linkWatch struct {
	mu      sync.Mutex
	status  uplink.Status
	since   clock.Stamp   // since when it is connected, or is not
	lastErr error         // what was last wrong, over or not; nil where nothing has been
	errAt   clock.Stamp   // when that was first seen
	stands  chan struct{} // buffered, signalled when the link has come to stand
}

// put takes the link's status and gives the one before it.
func (w *linkWatch) put(s uplink.Status, now clock.Stamp) (before uplink.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before = w.status
	if s.Connected != before.Connected {
		w.since = now
	}
	if s.Err != nil {
		if before.Err == nil || codeOf(s.Err) != codeOf(before.Err) {
			w.errAt = now
		}
		w.lastErr = s.Err
	}
	w.status = s
	return before
}

// broker is the subject of the link's faults.
const broker = "broker"

// linkCodes are the faults that a connection that stands has overcome.
var linkCodes = []health.Code{
	health.NetworkDown, health.IdleTimeout, health.TLSTooOld, health.ServerUntrusted, health.ClockWrong, health.CertificateRejected,
	health.CertificateUnusable, health.ConnectRefused, health.PublishDenied, health.NotDelivered, health.NoAcknowledgement,
	health.DuplicateClient, health.WillRefused, health.SubscribeDenied,
}

// linked is told every change of the link's status, on the link's goroutine.
func (d *Daemon) linked(s uplink.Status) {
	before := d.watch.put(s, d.o.Clock.Now())
	// What counts for the outputs is whether an order could come.
	if up := reachable(s); up != reachable(before) {
		d.bank.Link(up)
	}
	if s.Connected && !before.Connected {
		select {
		case d.watch.stands <- struct{}{}:
		default:
		}
		d.take(d.status("online", sensors.Field{Name: "version", Value: d.o.Version}))
	}
	d.linkFaults(s)
	if d.o.Linked != nil {
		d.o.Linked(s)
	}
}

// reachable reports whether orders can come: the link stands, and so does its
// subscription.
func reachable(s uplink.Status) bool { return s.Connected && len(s.Denied) == 0 }

// linkFaults keeps the one fault about the link that is true now, and the
// denied subscriptions beside it.
func (d *Daemon) linkFaults(s uplink.Status) {
	now := map[health.Code]string{}
	if s.Err != nil {
		code, detail := explained(s.Err)
		now[code] = detail
	}
	if len(s.Denied) > 0 {
		now[health.SubscribeDenied] = fmt.Sprintf("left out: %q", s.Denied)
	}
	if s.Undelivered != "" {
		now[health.NotDelivered] = fmt.Sprintf("published to %q", s.Undelivered)
	}
	if !s.Connected && s.Err == nil {
		return // nothing new is known yet
	}
	for _, c := range linkCodes {
		if detail, wrong := now[c]; wrong {
			d.health.Raise(c, broker, detail)
		} else {
			d.health.Clear(c, broker)
		}
	}
}

// codeOf gives the fault that an error of the link is.
func codeOf(err error) health.Code {
	code, _ := explained(err)
	return code
}

// explained gives the fault that an error of the link is, and what was seen.
func explained(err error) (code health.Code, detail string) {
	var e *uplink.Explained
	if errors.As(err, &e) {
		return health.Code(e.Code), e.Error() + "; " + e.Hint
	}
	return health.NetworkDown, err.Error()
}

// tell passes on changes of health and keeps STATUS= current, until ctx ends.
func (d *Daemon) tell(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	last := ""
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	read, synced, looked := d.files.Ask(), false, d.open.Ask()
	var warned []string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.faults.ready:
			d.tellFaults()
			continue
		case <-hourly.C:
			read, looked = d.files.Ask(), d.open.Ask()
			continue
		case <-looked:
			looked = nil
			d.tellOpen()
			continue
		case <-read:
			read, synced = nil, d.checkExpiry()
			warned = d.warnFiles(warned)
			continue
		case <-d.watch.stands: // it may be with a new certificate, which the link has had read
			synced = d.checkExpiry()
			continue
		case <-tick.C:
			d.spool.Verify()
		}
		if !synced && d.o.Clock.Now().Synced {
			synced = d.checkExpiry()
		}
		if now := d.statusLine(); now != last {
			d.notice(d.o.Notify.Status(now))
			last = now
		}
	}
}

// checkExpiry raises a fault while a certificate of ours is about to expire, or
// has expired. While the clock is not known to be true what was said stands: a
// clock that is years behind or ahead tells nothing of a date. It reports
// whether it is true.
func (d *Daemon) checkExpiry() (synced bool) {
	now := d.o.Clock.Now()
	ends := d.files.Ends(now.Wall)
	switch {
	case !now.Synced:
	case len(ends) > 0:
		d.health.Raise(health.CertificateExpiring, broker, ends[0].String())
	default:
		d.health.Clear(health.CertificateExpiring, broker)
	}
	return now.Synced
}

// warnFiles logs what is wrong with the files of the credentials though they can
// be used, and has not been told before. It gives all that is so now.
func (d *Daemon) warnFiles(told []string) (now []string) {
	now = d.files.Warnings()
	for _, line := range now {
		if !slices.Contains(told, line) {
			d.log.Warn("credentials: " + line)
		}
	}
	return now
}

// filesStuck is told when the disk does not give the files of the credentials,
// and when it does again.
func (d *Daemon) filesStuck(detail string) {
	if detail == "" {
		d.health.Clear(health.CertificateStuck, broker)
		return
	}
	d.health.Raise(health.CertificateStuck, broker, detail)
}

// statusLine is what `systemctl status` shows.
func (d *Daemon) statusLine() string {
	d.watch.mu.Lock()
	s := d.watch.status
	d.watch.mu.Unlock()
	link := "connecting to " + d.o.Config.Endpoint()
	if s.Connected {
		link = "connected to " + d.o.Config.Endpoint()
	}
	return fmt.Sprintf("%s; %d waiting, %d acknowledged; %s", link, d.waiting(), d.spool.Stats().Acked, d.health.Summary())
}

// waiting counts the messages that the broker has not acknowledged.
func (d *Daemon) waiting() uint64 {
	return uint64(d.spool.Stats().Pending())
}

// willPayload is the message that the broker publishes when it loses us.
func willPayload(thing string) []byte {
	b, err := json.Marshal(struct {
		Thing  string `json:"thing"`
		Kind   string `json:"kind"`
		State  string `json:"state"`
		Reason string `json:"reason"`
	}{thing, string(spool.Status), "offline", "lost"})
	if err != nil {
		panic(err) // four strings always encode
	}
	return b
}
