package daemon_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// shortLivedCertificate replaces the client's pair by one that ends soon.
func shortLivedCertificate(s *daemontest.Site, left time.Duration) {
	s.T.Helper()
	cert, key := certtest.SelfSigned(s.T, time.Now().Add(-time.Hour), time.Now().Add(left))
	for path, text := range map[string][]byte{s.Files.Certificate: cert, s.Files.Key: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			s.T.Fatal(err)
		}
	}
}

// A certificate that ends within thirty days is a fault, while it still works.
func TestCertificateExpiringIsAFault(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	shortLivedCertificate(s, 10*24*time.Hour)
	r := s.Start(cfg)
	f := daemontest.Await(t, "fault", r.Taken, func(rec message.Record) bool {
		return rec.Kind == message.Fault && strings.Contains(fmt.Sprint(rec.Fields), "certificate_expiring")
	})
	if text := fmt.Sprint(f.Fields); !strings.Contains(text, "certificate.pem.crt") || !strings.Contains(text, "raised") {
		t.Errorf("fault %s, want it raised, about the certificate", text)
	}
}

// Once a new pair is in place and in use, that is over.
func TestRotationEndsTheExpiry(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	good := map[string][]byte{}
	for _, path := range []string{s.Files.Certificate, s.Files.Key} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		good[path] = data
	}
	cert, key := daemontest.Issue(t, s.Files.CA, s.Files.CAKey, "fieldpost", time.Now().Add(29*24*time.Hour))
	place := func(cert, key []byte) {
		for path, data := range map[string][]byte{s.Files.Certificate: cert, s.Files.Key: key} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	place(cert, key)
	r := s.Start(cfg).AwaitLink(t)
	expiring := func(state string) func(rec message.Record) bool {
		return func(rec message.Record) bool {
			text := fmt.Sprint(rec.Fields)
			return rec.Kind == message.Fault && strings.Contains(text, "certificate_expiring") && strings.Contains(text, state)
		}
	}
	daemontest.Await(t, "fault", r.Taken, expiring("raised"))
	place(good[s.Files.Certificate], good[s.Files.Key])
	kick(s, cfg.Broker.ClientID)
	daemontest.Await(t, "end of the fault", r.Taken, expiring("cleared"))
}

// kick has the broker close the connection of a client, as another with its
// client id comes.
func kick(s *daemontest.Site, id string) {
	s.T.Helper()
	up := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: s.Addr, ClientID: id, CA: s.Files.CA, Certificate: s.Files.Certificate, Key: s.Files.Key,
		Outbox: uplink.NewQueue(), Observe: daemontest.ConnectionChanges(up),
	})
	if err != nil {
		s.T.Fatal(err)
	}
	stop := daemontest.Background(s.T, l.Run)
	daemontest.Await(s.T, "connection of the rival", up, func(st uplink.Status) bool { return st.Connected })
	if err := stop(); err != nil {
		s.T.Fatal(err)
	}
}
