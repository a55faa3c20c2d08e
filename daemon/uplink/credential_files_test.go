package uplink

import (
	"context"
	"crypto/x509"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/regular"
)

func TestEnds(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ca := certtest.NewAuthority(t, "test root", nil)
	dir := t.TempDir()
	pair := func(end time.Time) {
		cert, key := ca.Issue("board", func(c *x509.Certificate) { c.NotAfter = end })
		put(t, dir+"/cert", cert)
		put(t, dir+"/key", key)
	}
	put(t, dir+"/ca", ca.PEM)
	root, _ := ca.Issue("old root", func(c *x509.Certificate) {
		c.NotAfter, c.IsCA, c.BasicConstraintsValid = now.Add(100*day), true, true
	})
	f := NewCredentialFiles(CredentialFilesConfig{CA: dir + "/ca", Certificate: dir + "/cert", Key: dir + "/key"})
	readsOn(t, f)
	for _, step := range []struct {
		what string
		do   func()
		at   time.Time
		want string // the beginning of the error; "" for none
		also string // the error of the files, if they are broken
	}{
		{"no files yet", func() {}, now, "", ""},
		{"good for long", func() { pair(now.Add(40 * day)) }, now, "", ""},
		{"good for a while", func() {}, now.Add(20 * day), "our certificate expires on 2026-07-11 12:00 UTC, in 20 days", ""},
		{"over", func() {}, now.Add(41 * day), "our certificate expired on 2026-07-11", ""},
		{"over, and then broken", func() { must(t, os.Remove(dir+"/key")) }, now.Add(41 * day), "our certificate expired on 2026-07-11", "/key: private key cannot be read"},
		{"not over yet, and broken", func() {}, now.Add(20 * day), "our certificate expires on 2026-07-11", "/key: private key cannot be read"},
		{"good for long, and broken", func() {}, now, "", ""},
		{"renewed", func() { pair(now.Add(400 * day)) }, now.Add(41 * day), "", ""},
		{"not valid yet", func() {}, certtest.LongAgo.Add(-day), "", ""},
		{"a root that is good for long", func() { put(t, dir+"/ca", root) }, now, "", ""},
		{"a root that ends", func() {}, now.Add(90 * day), `the root "old root" expires on 2026-09-09`, ""},
		{"a root that is over", func() {}, now.Add(101 * day), `the root "old root" expired on 2026-09-09`, ""},
		{"one that is over, with a good one", func() { put(t, dir+"/ca", append(root, ca.PEM...)) }, now.Add(101 * day), "", ""},
	} {
		step.do()
		<-f.Refresh()
		got := f.Expiring(step.at)
		if step.want == "" {
			if len(got) > 0 {
				t.Errorf("%s: got %v, want none", step.what, got)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: got %v, want %q", step.what, got, step.want)
			continue
		}
		p := got[0]
		if p.Code != string(health.CertificateExpiring) || !strings.HasPrefix(p.What, step.want) || p.Do == "" ||
			strings.Contains(p.What, "cannot be used") != (step.also != "") || !strings.Contains(p.What, step.also) {
			t.Errorf("%s: got %q, want %q and %q", step.what, p, step.want, step.also)
		}
		if over := strings.Contains(step.want, "expired"); p.Warning == over {
			t.Errorf("%s: warning %v", step.what, p.Warning)
		}
	}
}

// readsOn runs f until the end of the test.
func readsOn(t *testing.T, f *CredentialFiles) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
}

// hanging is a disk that can hang.
type hanging struct {
	hangs atomic.Bool
	works chan struct{} // closed when the disk works again
}

func (h *hanging) read(path string, most int64) ([]byte, error) {
	if h.hangs.Load() {
		<-h.works
	}
	return regular.Read(path, most)
}

// While the disk hangs a link continues with the last files: its loop runs, it
// reconnects, and it stops in time. Files that were changed meanwhile are used when the
// disk works again.
func TestLinkOnAHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		b.place(old)
		var told []string
		h := &hanging{works: make(chan struct{})}
		f := NewCredentialFiles(CredentialFilesConfig{CA: b.file("ca.PEM"), Certificate: b.file("cert.pem"), Key: b.file("key.pem"), Read: h.read,
			Stuck: func(detail string) { told = append(told, detail) }})
		readsOn(t, f)
		c := b.config()
		var turned atomic.Int64
		c.CA, c.Certificate, c.Key, c.Files, c.Heartbeat = "", "", "", f, func() { turned.Add(1) }
		l := run(t, c)
		p := b.shows(101)
		p.connack(0, true)
		h.hangs.Store(true)
		b.place(renewed)
		p.hangUp()
		for range 3 {
			before := turned.Load()
			p = b.shows(101)
			p.connack(0, true)
			p.quiet(time.Minute)
			if st := l.Status(); !st.Connected || st.Err != nil || turned.Load()-before < 25 {
				t.Errorf("%d turns, status %+v", turned.Load()-before, st)
			}
			p.hangUp()
		}
		p = b.shows(101)
		p.connack(0, true)
		synctest.Wait()
		if end, err := f.Expires(); end.IsZero() || err == nil || !strings.Contains(err.Error(), "has not answered for 3m") {
			t.Errorf("%v, %v", end, err)
		}
		synctest.Wait()
		if f.Expiring(time.Now()) != nil || len(told) != 1 || !strings.Contains(told[0], "has not answered for 10s") {
			t.Errorf("told %q", told)
		}
		close(h.works)
		p.quiet(time.Second)
		synctest.Wait()
		if _, err := f.Expires(); err != nil || len(told) != 2 || told[1] != "" {
			t.Errorf("%v, told %q", err, told)
		}
		p.hangUp()
		p = b.shows(102)
		p.connack(0, true)
		l.end(t, p)
	})
}

// If the disk hangs from the start, the link says so, dials nothing, and stops at once.
func TestStartOnAHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		h := &hanging{works: make(chan struct{})}
		h.hangs.Store(true)
		c := b.config()
		f := NewCredentialFiles(CredentialFilesConfig{CA: c.CA, Certificate: c.Certificate, Key: c.Key, Read: h.read})
		readsOn(t, f)
		c.Files = f
		l := run(t, c)
		<-time.After(readFilesTimeout + time.Second)
		synctest.Wait()
		checkSays(t, l.Status().Err.(*Explained), health.CertificateStuck, "cert.pem: the files cannot be read: the disk has not answered for 5s")
		began := time.Now()
		l.end(t, nil)
		if d := time.Since(began); d > 0 {
			t.Errorf("the end took %v", d)
		}
		l = run(t, c)
		close(h.works)
		b.accept(false).hangUp()
		l.end(t, nil)
	})
}

// Files with the same contents are not parsed again; the same pair is used.
func TestSameFilesAreParsedOnce(t *testing.T) {
	b := newBroker(t)
	c := b.config()
	f := NewCredentialFiles(CredentialFilesConfig{CA: c.CA, Certificate: c.Certificate, Key: c.Key})
	readsOn(t, f)
	<-f.Refresh()
	first, problems := f.latest()
	<-f.Refresh()
	if again, _ := f.latest(); again != first || len(problems) > 0 {
		t.Errorf("%v", problems)
	}
	b.renew(77)
	<-f.Refresh()
	if renewed, _ := f.latest(); renewed == first || renewed.leaf.SerialNumber.Int64() != 77 {
		t.Error("the renewed pair is not seen")
	}
}
