package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// Whatever the link can say is a fault of that code, and ends when the link no longer
// says so.
func TestLinkFaults(t *testing.T) {
	changes := map[health.Code]health.Change{}
	d := &process{health: health.New(func(c health.Change) { changes[c.Fault.Code] = c })}
	for code, s := range map[health.Code]uplink.Status{
		health.NotDelivered:    {Connected: true, Undelivered: "field/readings"},
		health.SubscribeDenied: {Connected: true, Denied: []string{"field/orders"}},
		health.IdleTimeout:     {Err: &uplink.Explained{Code: "idle_timeout", What: "for 20s", Hint: "do this"}},
		health.WillRefused:     {Connected: true, Err: &uplink.Explained{Code: "will_refused", What: "no will", Hint: "do this"}},
		health.TLSTooOld:       {Err: &uplink.Explained{Code: "tls_too_old", What: "TLS 1.1", Hint: "do this"}},
	} {
		d.linkFaults(s)
		if c := changes[code]; !c.Raised || c.Subject != broker || c.Detail == "" || strings.HasPrefix(c.Fault.Meaning, "Unregistered") {
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

// An acknowledgement while all is well is told to nobody. Whatever else changes is, also
// where it is what it was before.
func TestOnlyCountsOfTheLink(t *testing.T) {
	well := uplink.Status{Connected: true, Published: 1}
	for name, c := range map[string]struct {
		before, next uplink.Status
		want         bool
	}{
		"acknowledged":     {well, uplink.Status{Connected: true, Published: 2}, true},
		"session lost":     {well, uplink.Status{Connected: true, Published: 1, SessionsLost: 1}, true},
		"first":            {uplink.Status{}, well, false},
		"down":             {well, uplink.Status{Published: 1}, false},
		"amiss":            {well, uplink.Status{Connected: true, Err: errors.New("topic denied")}, false},
		"still amiss":      {uplink.Status{Connected: true, Err: errors.New("a")}, uplink.Status{Connected: true, Err: errors.New("a")}, false},
		"no longer amiss":  {uplink.Status{Connected: true, Err: errors.New("a")}, well, false},
		"denied":           {well, uplink.Status{Connected: true, Denied: []string{"t"}}, false},
		"no longer denied": {uplink.Status{Connected: true, Denied: []string{"t"}}, well, false},
		"not delivered":    {well, uplink.Status{Connected: true, Undelivered: "t"}, false},
		"delivered again":  {uplink.Status{Connected: true, Undelivered: "t"}, well, false},
	} {
		w := linkWatch{status: c.before}
		if got := w.counts(c.next); got != c.want {
			t.Errorf("%s: counts only: %v", name, got)
		}
		if c.want && w.status.Published != c.next.Published {
			t.Errorf("%s: status is %+v", name, w.status)
		}
	}
}

// What is to be done about a fault of the link is what is to be done in this case, and
// not said twice; an error that nobody explains has what the registry says.
func TestCureOfTheLink(t *testing.T) {
	var last health.Change
	d := &process{health: health.New(func(c health.Change) { last = c })}
	d.linkFaults(uplink.Status{Err: &uplink.Explained{Code: "server_untrusted", What: "the wrong name", Hint: "Take the right one."}})
	if last.Cure != "Take the right one." || !strings.Contains(last.Detail, "the wrong name") || strings.Contains(last.Detail, last.Cure) {
		t.Errorf("explained: %+v", last)
	}
	d.linkFaults(uplink.Status{Connected: true})
	d.linkFaults(uplink.Status{Err: errors.New("what is this")})
	if f := health.Lookup(health.NetworkDown); last.Cure != f.Cure || last.Detail != "what is this" || last.Fault.Code != f.Code {
		t.Errorf("not explained: %+v", last)
	}
}

// While the network is down nothing is told of what was denied before; when the link
// stands again and it still is, it is told.
func TestNoLinkFaultsBesideNetworkDown(t *testing.T) {
	var told []string
	d := &process{health: health.New(func(c health.Change) { told = append(told, string(c.Fault.Code)+" "+c.State()) })}
	denied := []string{"field/orders"}
	d.linkFaults(uplink.Status{Err: &uplink.Explained{Code: "network_down", What: "no way"}, Denied: denied, Undelivered: "field/readings"})
	d.linkFaults(uplink.Status{Err: &uplink.Explained{Code: "connect_refused", What: "no"}, Denied: denied, Undelivered: "field/readings"})
	d.linkFaults(uplink.Status{Connected: true, Denied: denied})
	d.linkFaults(uplink.Status{Err: &uplink.Explained{Code: "network_down", What: "no way"}})
	want := []string{"network_down raised", "network_down cleared", "connect_refused raised", "connect_refused cleared", "subscribe_denied raised", "network_down raised", "subscribe_denied cleared"}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%q, want\n%q", told, want)
	}
}

// The journal's line and the message say what is wrong with what, what it means and
// what to do; for a bus, with which sensors on it.
func TestFaultReachesPeople(t *testing.T) {
	cfg := &config.Config{
		Sensors: []sensors.Config{
			{Name: "air", Options: sensors.I2C{Bus: "i2c-1"}}, {Name: "door", Options: sensors.GPIO{Pin: "GPIO17"}}, {Name: "cpu", Chip: "thermal"},
			{Name: "supply", Options: sensors.Hwmon{Device: "rpi_volt"}}, {Name: "new", Chip: "of a kind to come"}, {Name: "breath", Options: sensors.Serial{Device: "ttyS0"}}, {Name: "adc", Options: sensors.MCP3008{SPI: sensors.SPI{Device: "spidev0.0"}}}, {Name: "soil", Options: sensors.I2C{Bus: "i2c-1"}},
		},
		Outputs: []output.Config{{Name: "fan"}},
	}
	var lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	var got []string
	h := health.New(func(c health.Change) {
		c.Since = time.Time{}
		logFault(log, c)
		r := faultRecord(c)
		got = append(got, string(message.Encode("t", r)))
	})
	h.Know(subjects(cfg))
	absent, stuck := health.Lookup(health.Absent), health.Lookup(health.BusStuck)
	for subject, place := range map[string]health.Place{"door": health.OnLine, "cpu": health.InZone, "supply": health.OfKernel, "adc": health.OnSPI, "breath": health.OnPort, "fan": health.OnLine, "new": ""} {
		if cure := h.CureOf(health.Absent, subject); cure != absent.CureOf(place) {
			t.Errorf("%s: %s", subject, cure)
		}
	}
	h.Raise(health.Absent, "air", "no such bus")
	h.Raise(health.Absent, "fan", "no such line")
	h.Raise(health.BusStuck, "i2c-1", "it hangs")
	h.Clear(health.BusStuck, "i2c-1")
	want := []string{
		`{"thing":"t","kind":"fault","sensor":"air","code":"absent","state":"raised","severity":"error","detail":"no such bus","meaning":"` + absent.Meaning + `","hint":"` + absent.CureOf(health.OnBus) + `"}`,
		`{"thing":"t","kind":"fault","output":"fan","code":"absent","state":"raised","severity":"error","detail":"no such line","meaning":"` + absent.Meaning + `","hint":"` + absent.CureOf(health.OnLine) + `"}`,
		`{"thing":"t","kind":"fault","part":"i2c-1","code":"bus_stuck","state":"raised","severity":"warning","sensors":"air, soil","detail":"it hangs","meaning":"` + stuck.Meaning + `","hint":"` + stuck.Cure + `"}`,
		`{"thing":"t","kind":"fault","part":"i2c-1","code":"bus_stuck","state":"cleared"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("messages\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i, parts := range [][]string{
		{"level=ERROR", "sensor=air", "code=absent", "state=raised", "meaning=", absent.Meaning, absent.CureOf(health.OnBus)},
		{"level=ERROR", "output=fan"},
		{"level=WARN", "part=i2c-1", `sensors="air, soil"`, stuck.Cure},
		{"level=INFO", "no longer", "state=cleared"},
	} {
		line := strings.Split(lines.String(), "\n")[i]
		for _, p := range parts {
			if !strings.Contains(line, p) {
				t.Errorf("line %s: no %q", line, p)
			}
		}
	}
}
