package interop

import (
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/doctor"
	"fieldpost/daemon/health"
)

// The doctor against a broker that speaks no MQTT 5, closes the connection on a denied PUBLISH
// or SUBSCRIBE as AWS IoT Core does, and says so of a CONNECT.
func TestDoctorWithRabbitMQ(t *testing.T) {
	m := daemontest.StartRabbitMQ(t)
	sick := func(change func(t *testing.T, p *patient)) func(t *testing.T) *patient {
		return func(t *testing.T) *patient {
			p := newPatient(t, m.Addr, m.CA, m.Cert, m.Key)
			p.o.Config.Broker.ClientID = filepath.Base(p.dir) + "-" + filepath.Base(filepath.Dir(p.dir)) // each its own
			change(t, p)
			return p
		}
	}
	t.Run("nothing is wrong", func(t *testing.T) {
		p := sick(func(*testing.T, *patient) {})(t)
		r, err := doctor.Examine(t.Context(), p.o)
		if err != nil || r.Failed > 0 {
			t.Errorf("%v: %+v", err, r)
		}
	})
	for _, f := range []failure{
		{"publish is denied", "topic permission", sick(func(_ *testing.T, p *patient) {
			p.o.Config.Readings.Topic, p.o.Config.Broker.Will = "other/topic", "none"
		}), "publish", health.PublishDenied, true, "iot:Publish", ""},
		{"subscription is denied", "topic permission", sick(func(_ *testing.T, p *patient) {
			p.o.Config.Commands.Topic = "other/topic"
		}), "subscribe", health.SubscribeDenied, true, "iot:Subscribe", ""},
		{"nobody's certificate", "no such user", sick(func(t *testing.T, p *patient) {
			cert, key := daemontest.Issue(t, m.CA, m.CAKey, "nobody", time.Now().Add(time.Hour))
			b := &p.o.Config.Broker
			b.Certificate, b.Key = filepath.Join(p.dir, "cert.pem"), filepath.Join(p.dir, "key.pem")
			write(t, b.Certificate, cert)
			write(t, b.Key, key)
		}), "connect", health.LoginRefused, false, "user name", ""},
		{"certificate unknown", "another authority", sick(func(t *testing.T, p *patient) {
			ours(t, p, certtest.NewAuthority(t, "somebody", nil), nil)
		}), "tls versions", health.CertificateRejected, false, "our certificate", ""},
		{"of another authority", "broker.ca", sick(func(t *testing.T, p *patient) {
			p.o.Config.Broker.CA = filepath.Join(p.dir, "ca.pem")
			write(t, p.o.Config.Broker.CA, certtest.NewAuthority(t, "other root", nil).PEM)
		}), "tls handshake", health.ServerUntrusted, false, "broker.ca", ""},
		{"another client with our id", "a client that connects again and again", sick(func(_ *testing.T, p *patient) { p.withRival() }),
			"same client id", health.DuplicateClient, true, "client id of its own", ""},
	} {
		t.Run(f.name, func(t *testing.T) { t.Logf("%s", f.check(t)) })
	}
}
