package daemon

import (
	"strings"
	"testing"

	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// Whatever the link can say is a fault of that code, and ends when the link no longer
// says so.
func TestLinkFaults(t *testing.T) {
	changes := map[health.Code]health.Change{}
	d := &Daemon{health: health.New(func(c health.Change) { changes[c.Fault.Code] = c })}
	for code, s := range map[health.Code]uplink.Status{
		health.NotDelivered:    {Connected: true, Undelivered: "field/readings"},
		health.SubscribeDenied: {Connected: true, Denied: []string{"field/orders"}},
		health.IdleTimeout:     {Err: &uplink.Explained{Code: "idle_timeout", What: "for 20s", Hint: "do this"}},
		health.WillRefused:     {Connected: true, Err: &uplink.Explained{Code: "will_refused", What: "no will", Hint: "do this"}},
		health.TLSTooOld:       {Err: &uplink.Explained{Code: "tls_too_old", What: "TLS 1.1", Hint: "do this"}},
	} {
		d.linkFaults(s)
		if c := changes[code]; !c.Raised || c.Subject != broker || c.Detail == "" || strings.HasPrefix(c.Fault.Means, "Unregistered") {
			t.Errorf("%s: %+v", code, c)
		}
		d.linkFaults(uplink.Status{}) // between two attempts nothing is known
		if c := changes[code]; !c.Raised {
			t.Errorf("%s is over before the link stands", code)
		}
		d.linkFaults(uplink.Status{Connected: true})
		if c := changes[code]; c.Raised {
			t.Errorf("%s is not over: %+v", code, c)
		}
	}
}
