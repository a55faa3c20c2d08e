package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/certtest"
	"fieldpost/daemon/clock/clocktest"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/records"
	"fieldpost/daemon/refresh"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
)

// dated is a daemon of which only what tells of health runs.
type dated struct {
	t     *testing.T
	d     *Daemon
	clock *clocktest.Clock
	dir   string
}

const day = 24 * time.Hour

// watchExpiry runs it on a board that has a certificate which ends after so long.
func watchExpiry(t *testing.T, c *clocktest.Clock, left time.Duration) *dated {
	t.Helper()
	w := &dated{t: t, clock: c, dir: t.TempDir()}
	s, err := records.Open(spool.Options{Dir: filepath.Join(w.dir, "spool"), AtRisk: time.Second, MaxBytes: 1 << 20, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Thing: "thing"}
	cfg.File, cfg.Spool.Dir = w.path("fieldpost.yaml"), filepath.Join(w.dir, "spool")
	w.put("fieldpost.yaml", nil)
	cfg.Broker.CA, cfg.Broker.Certificate, cfg.Broker.Key = w.path("ca"), w.path("cert"), w.path("key")
	w.d = &Daemon{process: process{
		o:   Options{Clock: c, Notify: &systemd.Notifier{Send: func(string) error { return nil }}},
		log: slog.New(slog.DiscardHandler), spool: s,
		faults: faultQueue{ready: wake.New()}, watch: linkWatch{stands: wake.New()},
	}}
	w.d.health = health.New(w.d.faults.put)
	w.pair(100*365*day, "ca", "unused")
	w.pair(left, "cert", "key")
	w.d.present.Store(w.d.newGeneration(cfg, nil))
	fetching := task.Start("credentials", make(chan error, 1), w.d.generation().files.Run)
	w.d.open = refresh.New(func() access.Found { return access.Look(cfg.Places(w.dir)) }, nil)
	looking := task.Start("access", make(chan error, 1), w.d.open.Run)
	telling := task.Start("status", make(chan error, 1), w.d.tell)
	t.Cleanup(func() {
		for _, p := range []*task.Task{telling, fetching, looking} {
			if err := p.Stop(time.Minute); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return w
}

func (w *dated) path(name string) string { return filepath.Join(w.dir, name) }

func (w *dated) put(name string, data []byte) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// pair puts a certificate that ends after so long, and its key, into place.
func (w *dated) pair(left time.Duration, cert, key string) {
	w.t.Helper()
	c, k := certtest.SelfSigned(w.t, time.Now().Add(-5*365*day), time.Now().Add(left))
	w.put(cert, c)
	w.put(key, k)
}

// after says what is wrong when so much time has passed; "" is nothing. Of more
// than an hour the clock is turned for the rest.
func (w *dated) after(d time.Duration, when, want string) {
	w.t.Helper()
	w.clock.Set(w.clock.Off+max(0, d-time.Hour), w.clock.Synced)
	<-time.After(min(d, time.Hour))
	synctest.Wait()
	got := ""
	for _, f := range w.d.health.Current() {
		got += string(f.Fault.Code) + ": " + f.Detail
	}
	if !strings.Contains(got, want) || want == "" && got != "" {
		w.t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// The fault stays when the end has come while the link stands, until a new pair
// is in place.
func TestExpiredStaysAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchExpiry(t, &clocktest.Clock{Boot: "b", Synced: true}, 32*day)
		w.after(time.Minute, "at first", "")
		w.after(3*day, "29 days before", "certificate_expiring: warning")
		w.after(28*day+time.Hour, "on the last day", "expires on 2000-02-02 00:00 UTC, in 0 days")
		w.after(day, "after the end", "certificate_expiring: error: ")
		w.after(day, "a day after the end", "our certificate expired on 2000-02-02")
		w.pair(365*day, "cert", "key")
		w.after(time.Hour, "renewed", "")
	})
}

// What is put in a certificate's place and cannot be used hides its end
// neither when that is known already nor when it is yet to come.
func TestBrokenRenewalHidesNoExpiry(t *testing.T) {
	for name, breaks := range map[string]func(*dated){
		"half of a certificate": func(w *dated) { w.put("cert", []byte("-----BEGIN CERT")) },
		"a key of another":      func(w *dated) { w.pair(365*day, "unused", "key") },
		"a certificate alone":   func(w *dated) { w.pair(365*day, "cert", "unused") },
		"no certificate":        func(w *dated) { _ = os.Remove(w.path("cert")) },
		"no root":               func(w *dated) { _ = os.Remove(w.path("ca")) },
	} {
		for _, left := range []time.Duration{10 * day, 40 * day} {
			synctest.Test(t, func(t *testing.T) {
				w := watchExpiry(t, &clocktest.Clock{Boot: "b", Synced: true}, left)
				breaks(w)
				w.after(15*day, name, "what is there now cannot be used: ")
				w.after(30*day, name, "our certificate expired on 2000-0")
				w.pair(100*365*day, "ca", "unused")
				w.pair(365*day, "cert", "key")
				w.after(time.Hour, name+" mended", "")
			})
		}
	}
}

// A clock that is not known to be true neither raises nor ends the fault,
// whatever it shows; soon after it is, the fault is right.
func TestUntrueClockSaysNothingOfExpiry(t *testing.T) {
	const year = 365 * day
	for _, off := range []time.Duration{-30 * year, -year, -10 * day, 0, 10 * day, year, 30 * year} {
		synctest.Test(t, func(t *testing.T) {
			c := &clocktest.Clock{Boot: "b", Off: off}
			w := watchExpiry(t, c, 60*day)
			w.after(time.Hour, "good, not known", "")
			c.Set(0, true)
			w.after(11*time.Second, "good", "")
			w.pair(23*day, "cert", "key")
			w.after(time.Hour, "soon over", "in 22 days")
			c.Set(off, false)
			w.after(time.Hour, "soon over, not known", "in 22 days")
			w.pair(300*day, "cert", "key")
			w.after(time.Hour, "renewed, not known", "in 22 days")
			c.Set(0, true)
			w.after(11*time.Second, "renewed", "")
		})
	}
}

// On a board that starts in the past a certificate that is over is told of as
// soon as the time is known.
func TestExpiryIsToldOnceTheTimeIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clocktest.Clock{Boot: "b", Off: -4 * 365 * day}
		w := watchExpiry(t, c, -day)
		w.after(time.Minute, "in the past", "")
		c.Set(0, true)
		w.after(11*time.Second, "in the present", "certificate_expiring: error: ")
	})
}
