package daemon_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"fieldpost/daemon"
)

var update = flag.Bool("update", false, "write what was made into the golden files")

// someReport has every key.
func someReport() daemon.Report {
	at := time.Date(2026, 11, 21, 19, 5, 0, 123e6, time.UTC)
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	return daemon.Report{
		Thing: "thing-greenhouse", Version: "v1.2.3", PID: 812, Board: "Raspberry Pi 3 Model B", Run: 7,
		Time: at, Started: ago(76 * time.Hour), Uptime: 76 * 3600, ClockSynced: false,
		Link: daemon.LinkReport{
			Since: ago(90 * time.Second), For: 90, Endpoint: "a1b2c3.iot.example.com:8883", ClientID: "thing-greenhouse",
			Denied: []string{"test/topic/commands"}, Next: at.Add(12500 * time.Millisecond), Acknowledged: 4711, SessionsLost: 2, Dropped: 5, Ping: 8, Idle: 20,
			LastError: &daemon.LinkError{Code: "network_down", Text: "nothing listens at a1b2c3.iot.example.com:8883", Hint: "Check the port in broker.endpoint, and that the broker runs.", Time: ago(90 * time.Second)},
		},
		Certificate: daemon.CertificateReport{File: "/etc/fieldpost/certs/certificate.pem.crt", Expires: at.Add(100*24*time.Hour + time.Hour)},
		Spool:       daemon.SpoolReport{ID: "k7m2qx", Writable: true, Waiting: 3, Oldest: 88.5, AtRisk: 1, Bytes: 12 << 20, MaxBytes: 64 << 20, Acked: 98765, Dropped: 2, Refused: 1},
		Orders:      daemon.OrdersReport{Topic: "test/topic/commands", Done: 12, Refused: 3, Failed: 1, Again: 4, Passed: 100, Elsewhere: 6, Unanswered: 1500},
		Sensors: []daemon.SensorReport{
			{Name: "air", Chip: "bme280", Time: ago(4 * time.Second), Age: 4, Seq: 41, Values: daemon.Values{{Name: "temperature", Value: 21.53}, {Name: "humidity", Value: 48.2}, {Name: "pressure", Value: 101325.0}}},
			{Name: "soil", Chip: "tmp102", Faults: []string{"no_answer"}},
			{Name: "door", Chip: "gpio", Time: ago(26 * time.Hour), Age: 26 * 3600, Seq: 2, Values: daemon.Values{{Name: "active", Value: true}}},
		},
		Outputs: []daemon.OutputReport{
			{Name: "pump", State: "on", Since: ago(75 * time.Second), For: 75, Cause: "local uid=1000(pi) pid=4242", Order: "c-81", RefreshLost: 2},
			{Name: "fan", Error: `line is held by "gpio-keys"`, Faults: []string{"line_busy"}},
		},
		Faults: []daemon.FaultReport{
			{Code: "network_down", Subject: "broker", Title: "broker cannot be reached", Detail: "nothing listens at a1b2c3.iot.example.com:8883", Meaning: "Nothing answers at the broker's address.", Hint: "Check the port in broker.endpoint, and that the broker runs.", Since: ago(90 * time.Second), For: 90},
			{Code: "line_busy", Subject: "fan", Title: "line is held by somebody else", Detail: `held by "gpio-keys"`, Meaning: "Another program has requested this line.", Hint: "Stop the other holder, or choose another pin.", Since: ago(76 * time.Hour), For: 76 * 3600, Error: true},
			{Code: "no_answer", Subject: "soil", Title: "does not answer", Detail: "nothing answers at 0x48", Meaning: "Nothing answers.", Hint: "Check it.", Since: ago(time.Minute), For: 60, Because: &daemon.CauseReport{Code: "bus_stuck", Subject: "i2c-1"}},
		},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it was; if that is right, -update writes it. Got\n%s", path, got)
	}
}

// The keys are a promise: other programs read them.
func TestReportInJSON(t *testing.T) {
	r := someReport()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "status.json", append(b, '\n'))
	var back daemon.Report
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("comes back as %+v, %v", back, err)
	}
}

func TestReportForPeople(t *testing.T) {
	r := someReport()
	var text bytes.Buffer
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "status.txt", text.Bytes())

	// A board that is well, and one of whose disk nothing good can be said.
	r.ClockSynced, r.Link.Connected, r.Link.Next, r.Link.Denied, r.Link.LastError.Over = true, true, time.Time{}, nil, true
	r.Link.SessionsLost, r.Link.Dropped, r.Link.Ping, r.Link.Idle = 0, 0, 0, 0
	r.Spool.Writable, r.Spool.Waiting, r.Spool.Bytes, r.Uptime, r.Link.For = false, 0, 74, 3700, 7.25
	r.Certificate.Error = `the files cannot be read: the disk has not answered for 12s`
	r.Sensors, r.Outputs, r.Faults = nil, nil, nil
	text.Reset()
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	r.Certificate.Error, r.Certificate.Expires, r.Spool.Bytes = "", r.Time.Add(-time.Hour), 2048
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-well.txt", text.Bytes())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no paper") }

func TestReportCannotBePrinted(t *testing.T) {
	if err := someReport().Print(broken{}); err == nil {
		t.Error("no error")
	}
}

func TestValues(t *testing.T) {
	var v daemon.Values
	for _, bad := range []string{`[1]`, `{"a":}`, `null`} {
		if err := v.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is taken for %v", bad, v)
		}
	}
	if _, err := json.Marshal(daemon.Values{{Name: "x", Value: func() {}}}); err == nil {
		t.Error("a function has a form in JSON")
	}
}
