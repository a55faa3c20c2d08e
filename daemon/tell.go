package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/memory"
	"fieldpost/daemon/message"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/wake"
	"fieldpost/sensors"
)

// faultQueue holds changes of health until the daemon's own goroutine tells
// them: they may come from inside the spool, and telling needs the spool.
type faultQueue struct {
	mu    sync.Mutex
	held  []health.Change
	ready wake.Signal // set when held grew
}

func (q *faultQueue) put(c health.Change) {
	q.mu.Lock()
	q.held = append(q.held, c)
	q.mu.Unlock()
	q.ready.Set()
}

func (q *faultQueue) take() []health.Change {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := q.held
	q.held = nil
	return held
}

// tellFaults reports what has changed since it was last called.
func (p *process) tellFaults() {
	for _, c := range p.faults.take() {
		p.fault(c)
	}
}

// fault tells a change of health to the journal and, as a message, to the
// broker.
func (p *process) fault(c health.Change) {
	logFault(p.log, c)
	r := faultRecord(c)
	r.Run, r.Stamp = p.spool.RunNumber(), p.o.Clock.Now()
	p.take(r)
}

// logFault writes a change of health into the log.
func logFault(log *slog.Logger, c health.Change) {
	level, text, id := slog.LevelWarn, c.Subject+": "+c.Fault.Title, c.Fault.Code.MessageID()
	attrs := []any{string(c.Kind), c.Subject, "code", string(c.Fault.Code), "state", c.State()}
	switch {
	case !c.Raised:
		level, text, id = slog.LevelInfo, c.Subject+": no longer: "+c.Fault.Title, health.ClearedID
	case c.Fault.Severity == health.Error:
		level = slog.LevelError
	}
	if c.Raised {
		if len(c.Upon) > 0 {
			attrs = append(attrs, "sensors", strings.Join(c.Upon, ", "))
		}
		attrs = append(attrs, "detail", c.Detail, "meaning", c.Fault.Meaning, "hint", c.Cure)
	}
	log.Log(context.Background(), level, text, append(attrs, systemd.MessageID(id))...)
}

// faultRecord makes a message of a change of health, but for its run and its time.
func faultRecord(c health.Change) message.Record {
	r := message.Record{Kind: message.Fault}
	add := func(name, value string) { r.Fields = append(r.Fields, sensors.Field{Name: name, Value: value}) }
	if c.Kind == health.Sensor {
		r.Sensor = c.Subject
	} else {
		add(string(c.Kind), c.Subject)
	}
	add("code", string(c.Fault.Code))
	add("state", c.State())
	if !c.Raised {
		return r
	}
	add("severity", string(c.Fault.Severity))
	if len(c.Upon) > 0 {
		add("sensors", strings.Join(c.Upon, ", "))
	}
	add("detail", c.Detail)
	add("meaning", c.Fault.Meaning)
	add("hint", c.Cure)
	return r
}

// linkWatch is what was last told about the link.
type linkWatch struct {
	mu      sync.Mutex
	status  uplink.Status
	since   clock.Stamp // since when it is connected, or is not
	lastErr error       // what was last wrong, over or not; nil where nothing has been
	errAt   clock.Stamp // when that was first seen
	stands  wake.Signal // set when there is a new connection
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

// connected reports whether the link is up.
func (w *linkWatch) connected() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.Connected
}

// broker is the subject of the link's faults.
const broker = "broker"

// linkCodes are the faults that a connection that stands has overcome.
var linkCodes = health.Codes(health.Link)

// counts takes a status in which nothing but counts differs from the one before, as with
// each acknowledgement while all is well. It reports whether it is such a status.
func (w *linkWatch) counts(s uplink.Status) bool {
	well := func(s uplink.Status) bool {
		return s.Connected && s.Err == nil && len(s.Denied) == 0 && s.Undelivered == ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !well(s) || !well(w.status) {
		return false
	}
	w.status = s
	return true
}

// linked is told every change of the link's status, on the link's goroutine.
func (d *Daemon) linked(s uplink.Status) {
	if !d.watch.counts(s) {
		d.linkChanged(s)
	}
	if d.o.Linked != nil {
		d.o.Linked(s)
	}
}

// linkChanged has all follow who go by the state of the link.
func (d *Daemon) linkChanged(s uplink.Status) {
	before := d.watch.put(s, d.o.Clock.Now())
	// What counts for the outputs is whether an order could come.
	if up := reachable(s); up != reachable(before) {
		d.bank.Link(up)
	}
	if s.Connected && !before.Connected {
		d.watch.stands.Set()
		d.take(message.Online(d.spool.RunNumber(), d.o.Clock.Now(), d.spool.Source(), d.o.Version))
	}
	d.linkFaults(s)
}

// reachable reports whether orders can come: the link stands, and so does its
// subscription.
func reachable(s uplink.Status) bool { return s.Connected && len(s.Denied) == 0 }

// linkFaults keeps the one fault about the link that is true now, and the
// denied subscriptions beside it.
func (p *process) linkFaults(s uplink.Status) {
	type seen struct{ detail, cure string }
	now := map[health.Code]seen{}
	if s.Err != nil {
		code, detail, cure := explained(s.Err)
		now[code] = seen{detail, cure}
	}
	if len(s.Denied) > 0 {
		detail := fmt.Sprintf("left out: %q", s.Denied)
		if s.DeniedWhy != "" {
			detail += "; " + s.DeniedWhy
		}
		now[health.SubscribeDenied] = seen{detail: detail}
	}
	if s.Undelivered != "" {
		now[health.NotDelivered] = seen{detail: fmt.Sprintf("published to %q", s.Undelivered)}
	}
	if !s.Connected && s.Err == nil {
		return // nothing new is known yet
	}
	for _, c := range linkCodes {
		if saw, wrong := now[c]; wrong {
			p.health.RaiseFor(c, broker, saw.detail, saw.cure)
		} else {
			p.health.Clear(c, broker)
		}
	}
}

// codeOf gives the fault that an error of the link is.
func codeOf(err error) health.Code {
	code, _, _ := explained(err)
	return code
}

// explained gives the fault that an error of the link is, what was seen, and what to
// do in this case; "" is what is to be done about the fault.
func explained(err error) (code health.Code, detail, cure string) {
	var e *uplink.Explained
	if errors.As(err, &e) {
		return health.Code(e.Code), e.Error(), e.Hint
	}
	return health.NetworkDown, err.Error(), ""
}

// tell passes on changes of health and keeps STATUS= current, until ctx ends.
func (d *Daemon) tell(ctx context.Context) error {
	const lookEvery = 10 * time.Second
	tick := time.NewTimer(d.heartbeats.Wait(time.Now(), lookEvery))
	defer tick.Stop()
	last := ""
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	read, synced, looked := d.generation().files.Refresh(), false, d.open.Refresh()
	var warned []string
	var returned memoryReturn
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.faults.ready.C():
			d.tellFaults()
			continue
		case <-d.events.late.C():
			d.events.release()
			continue
		case <-hourly.C:
			read, looked = d.generation().files.Refresh(), d.open.Refresh()
			continue
		case <-d.swapped.C():
			read, looked = d.generation().files.Refresh(), d.open.Refresh()
			continue
		case <-looked:
			looked = nil
			d.tellOpen()
			continue
		case <-read:
			read, synced = nil, d.checkExpiry()
			warned = d.warnFiles(warned)
			continue
		case <-d.watch.stands.C(): // it may be with a new certificate, which the link has had read
			synced = d.checkExpiry()
			continue
		case <-tick.C:
			tick.Reset(d.heartbeats.Wait(time.Now(), lookEvery))
			d.spool.Verify()
			if returned.isDue(d.generation(), d.watch.connected()) {
				d.releaseMemory()
			}
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

// memoryReturn decides when memory is given back: once for each configuration, when the link is
// up with it, and so after the start and after a reload. Reading a configuration takes what
// nothing else does: the parser, its tree, and the parts of the generation before.
type memoryReturn struct{ last *generation }

// isDue reports whether memory must be given back now, and counts it as done.
func (r *memoryReturn) isDue(present *generation, connected bool) bool {
	if !connected || r.last == present {
		return false
	}
	r.last = present
	return true
}

// releaseMemory gives memory back that the start or a reload, and the handshake, have used.
func (d *Daemon) releaseMemory() {
	if err := memory.Release(); err != nil {
		d.log.Debug("what only the start or a reload has used stays in memory", "err", err)
	}
}

// checkExpiry raises a fault while a certificate of ours is about to expire, or
// has expired. While the clock is not known to be true what was said stands: a
// clock that is years behind or ahead tells nothing of a date. It reports
// whether it is true.
func (d *Daemon) checkExpiry() (synced bool) {
	now := d.o.Clock.Now()
	ends := d.generation().files.Expiring(now.Wall)
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
	now = d.generation().files.Warnings()
	for _, line := range now {
		if !slices.Contains(told, line) {
			d.log.Warn("credentials: " + line)
		}
	}
	return now
}

// tellOpen raises a fault for each subject of which something is open to others
// as was last seen, and clears the others.
func (p *process) tellOpen() {
	found, _ := p.open.Last()
	for _, subject := range access.Subjects {
		all := found[subject]
		if len(all) == 0 {
			p.health.Clear(health.OpenToOthers, subject)
			continue
		}
		detail := all[0].String()
		if n := len(all) - 1; n > 0 {
			detail += fmt.Sprintf("; and %d more, which `fieldpost check` names", n)
		}
		p.health.Raise(health.OpenToOthers, subject, detail)
	}
}

// filesStuck is told when the disk does not give the files of the credentials,
// and when it does again.
func (p *process) filesStuck(detail string) {
	if detail == "" {
		p.health.Clear(health.CertificateStuck, broker)
		return
	}
	p.health.Raise(health.CertificateStuck, broker, detail)
}

// statusLine is what `systemctl status` shows.
func (d *Daemon) statusLine() string {
	d.watch.mu.Lock()
	s := d.watch.status
	d.watch.mu.Unlock()
	link := "connecting to " + d.config().Endpoint()
	if s.Connected {
		link = "connected to " + d.config().Endpoint()
	}
	return fmt.Sprintf("%s; %d waiting, %d acknowledged; %s", link, d.waiting(), d.spool.Stats().Acked, d.health.Summary())
}
