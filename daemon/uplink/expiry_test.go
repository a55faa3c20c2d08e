package uplink

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/health"
)

func TestExpiry(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ca := newAuthority(t, "test root")
	dir := t.TempDir()
	pair := func(end time.Time) {
		cert, key := ca.issue("board", func(c *x509.Certificate) { c.NotAfter = end })
		put(t, dir+"/cert", cert)
		put(t, dir+"/key", key)
	}
	put(t, dir+"/ca", ca.pem)
	root, _ := ca.issue("old root", func(c *x509.Certificate) {
		c.NotAfter, c.IsCA, c.BasicConstraintsValid = now.Add(100*day), true, true
	})
	var e Expiry
	for _, step := range []struct {
		what string
		do   func()
		at   time.Time
		want string // what is said, from its start; "" is nothing
		also string // and what of the files, where they are broken
	}{
		{"no files yet", func() {}, now, "", ""},
		{"good for long", func() { pair(now.Add(40 * day)) }, now, "", ""},
		{"good for a while", func() {}, now.Add(20 * day), "our certificate expires on 2026-07-11 12:00 UTC, in 20 days", ""},
		{"over", func() {}, now.Add(41 * day), "our certificate expired on 2026-07-11", ""},
		{"over, and then broken", func() { must(t, os.Remove(dir+"/key")) }, now.Add(41 * day), "our certificate expired on 2026-07-11", "/key: private key cannot be read"},
		{"not over yet, and broken", func() {}, now.Add(20 * day), "our certificate expires on 2026-07-11", "/key: private key cannot be read"},
		{"good for long, and broken", func() {}, now, "", ""},
		{"renewed", func() { pair(now.Add(400 * day)) }, now.Add(41 * day), "", ""},
		{"not valid yet", func() {}, longAgo.Add(-day), "", ""},
		{"a root that is good for long", func() { put(t, dir+"/ca", root) }, now, "", ""},
		{"a root that ends", func() {}, now.Add(90 * day), `the root "old root" expires on 2026-09-09`, ""},
		{"a root that is over", func() {}, now.Add(101 * day), `the root "old root" expired on 2026-09-09`, ""},
		{"one that is over, with a good one", func() { put(t, dir+"/ca", append(root, ca.pem...)) }, now.Add(101 * day), "", ""},
	} {
		step.do()
		got := e.Check(dir+"/ca", dir+"/cert", dir+"/key", step.at)
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
