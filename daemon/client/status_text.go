package client

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/output"
)

// PrintStatus writes a daemon's state for people. The error is w's.
func PrintStatus(w io.Writer, r api.Status) error {
	p := &printer{t: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	p.line("%s\tfieldpost %s, run %d, process %d, up %s, since %s", r.Thing, r.Version, r.Run, r.PID, span(r.Uptime), moment(r.Started))
	clock := "synchronised"
	if !r.ClockSynced {
		clock = "not synchronised: orders that switch on are refused"
	}
	p.line("clock\t%s", clock)
	p.link(r)
	p.certificate(r)
	p.spool(r.Spool)
	p.orders(r.Orders)
	p.sensors(r.Sensors)
	p.outputs(r.Outputs)
	p.faults(r.Faults)
	if p.err != nil {
		return fmt.Errorf("print status: %w", p.err)
	}
	return p.t.Flush()
}

// printer writes lines of tab-separated cells and keeps the first error.
type printer struct {
	t   *tabwriter.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.t, format+"\n", args...)
	}
}

// section begins a new section, whose columns have their own widths.
func (p *printer) section(title string) {
	if p.err == nil {
		p.err = p.t.Flush()
	}
	p.line("\n%s", title)
}

func (p *printer) link(r api.Status) {
	l := r.Link
	state := "not connected"
	if l.Connected {
		state = "connected"
	}
	next := ""
	if !l.Next.IsZero() {
		next = ", next try in " + span(max(0, l.Next.Sub(r.Time).Seconds()))
	}
	p.line("link\t%s to %s as %s for %s%s", state, l.Endpoint, l.ClientID, span(l.For), next)
	if len(l.Denied) > 0 {
		p.line("\tsubscription denied: %s", strings.Join(l.Denied, ", "))
	}
	if l.SessionsLost > 0 {
		p.line("\tsessions that the broker lost, perhaps with orders for this board: %d", l.SessionsLost)
	}
	if l.Dropped > 0 {
		p.line("\tmessages from the broker that were too large or too many and were dropped: %d", l.Dropped)
	}
	if l.Ping > 0 {
		p.line("\tpings every %s, because something in the network drops connections that are idle for %s", span(l.Ping), span(l.Idle))
	}
	if e := l.LastError; e != nil {
		before := ""
		if e.Over {
			before = "last error: "
		}
		p.line("\t%s%s (%s, %s)", before, e.Text, e.Code, moment(e.Time))
		if !e.Over && e.Hint != "" {
			p.line("\t%s", e.Hint)
		}
	}
}

func (p *printer) certificate(r api.Status) {
	c := r.Certificate
	if c.Expires.IsZero() {
		p.line("certificate\t%s", cmp.Or(c.Error, "none; the board logs in with its user name"))
		return
	}
	also := ""
	if c.Error != "" {
		also = "; " + c.Error
	}
	left := c.Expires.Sub(r.Time)
	if left <= 0 {
		p.line("certificate\texpired on %s%s", c.Expires.Format(time.DateOnly), also)
		return
	}
	p.line("certificate\texpires on %s, in %d days%s", c.Expires.Format(time.DateOnly), int(left/(24*time.Hour)), also)
}

func (p *printer) spool(s api.Spool) {
	waiting := "nothing waiting"
	if s.Waiting > 0 {
		waiting = fmt.Sprintf("%d waiting, the oldest for %s, %d at risk in a power cut", s.Waiting, span(s.Oldest), s.AtRisk)
	}
	if !s.Writable {
		waiting += "; the disk is not writable"
	}
	p.line("spool\t%s; %s of %s; %d dropped", waiting, size(s.Bytes), size(s.MaxBytes), s.Dropped)
}

// orders writes the counts of orders: the first line if there is a topic of orders, the others
// if their counts are not zero.
func (p *printer) orders(o api.Orders) {
	if o.Topic != "" {
		p.line("orders\t%d done, %d refused, %d failed; by MQTT on %s", o.Done, o.Refused, o.Failed, o.Topic)
	}
	if o.Unanswered > 0 {
		p.line("\tnot answered individually: %d", o.Unanswered)
	}
	if o.Elsewhere > 0 {
		p.line("\tmessages on other topics, ignored: %d", o.Elsewhere)
	}
}

func (p *printer) sensors(all []api.Sensor) {
	if len(all) > 0 {
		p.section("sensors")
	}
	for _, s := range all {
		age, values := "never read", ""
		if !s.Time.IsZero() {
			age, values = span(s.Age)+" ago", strings.Join(texts(s.Values, s.Chip, s.Units), ", ")
		}
		p.line("  %s\t%s\t%s", s.Name, age, strings.Join(append(nonempty(values), s.Faults...), "; "))
	}
}

func (p *printer) outputs(all []api.Output) {
	if len(all) > 0 {
		p.section("outputs")
	}
	for _, o := range all {
		since := ""
		if o.State != "" {
			since = fmt.Sprintf("for %s, by %s", span(o.For), output.State{Cause: o.Cause, Order: o.Order}.By())
		}
		state := cmp.Or(o.State, "no line")
		if o.Level != nil && o.State != "" {
			state = fmt.Sprintf("%v %%", *o.Level)
		}
		p.line("  %s\t%s\t%s", o.Name, state, strings.Join(append(nonempty(since, refreshText(o.RefreshLost), o.Error), o.Faults...), "; "))
	}
}

// refreshText says how often an output was made safe because no order came within refresh.
func refreshText(trips uint64) string {
	switch trips {
	case 0:
		return ""
	case 1:
		return "made safe once because no order came within refresh"
	}
	return fmt.Sprintf("made safe %d times because no order came within refresh", trips)
}

func (p *printer) faults(all []api.Fault) {
	if len(all) == 0 {
		p.section("all well")
		return
	}
	p.section("faults")
	for _, f := range all {
		p.line("  %s\t%s\t%s, for %s", f.Subject, f.Code, f.Title, span(f.For))
		more := nonempty(f.Detail, f.Meaning, f.Hint)
		if by := f.Because; by != nil {
			more = nonempty(f.Detail, fmt.Sprintf("because of %s: %s", by.Subject, by.Code))
		}
		for _, more := range more {
			p.line("\t\t%s", more)
		}
	}
}

// nonempty returns the texts that are not empty.
func nonempty(texts ...string) (out []string) {
	for _, s := range texts {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// span formats seconds for people, in the two largest units.
func span(s float64) string {
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	n := int64(s)
	switch {
	case s < 10:
		return fmt.Sprintf("%.1f s", s)
	case n < minute:
		return fmt.Sprintf("%d s", n)
	case n < hour:
		return fmt.Sprintf("%d min %d s", n/minute, n%minute)
	case n < day:
		return fmt.Sprintf("%d h %d min", n/hour, n%hour/minute)
	}
	return fmt.Sprintf("%d d %d h", n/day, n%day/hour)
}

// moment formats a time for people.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// size formats a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
