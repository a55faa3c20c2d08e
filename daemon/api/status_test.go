package api_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/goldentest"
)

// someStatus has every key.
func someStatus() api.Status {
	at := time.Date(2026, 11, 21, 19, 5, 0, 123e6, time.UTC)
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	return api.Status{
		Thing: "thing-greenhouse", Version: "v1.2.3", PID: 812, Board: "Raspberry Pi 3 Model B", Run: 7,
		Time: at, Started: ago(76 * time.Hour), Uptime: 76 * 3600, ClockSynced: false,
		Link: api.Link{
			Since: ago(90 * time.Second), For: 90, Endpoint: "a1b2c3.iot.example.com:8883", ClientID: "thing-greenhouse",
			Denied: []string{"test/topic/commands"}, Next: at.Add(12500 * time.Millisecond), Acknowledged: 4711, Connects: 3, Attempts: 4, SessionsLost: 2, Dropped: 5, Ping: 8, Idle: 20,
			LastError: &api.LinkError{Code: "network_down", Text: "nothing listens at a1b2c3.iot.example.com:8883", Hint: "Check the port in broker.endpoint, and that the broker runs.", Time: ago(90 * time.Second)},
		},
		Certificate: api.Certificate{File: "/etc/fieldpost/certs/certificate.pem.crt", Expires: at.Add(100*24*time.Hour + time.Hour)},
		Spool:       api.Spool{ID: "k7m2qx", Writable: true, Waiting: 3, Oldest: 88.5, AtRisk: 1, Bytes: 12 << 20, MaxBytes: 64 << 20, Acked: 98765, Dropped: 2, Refused: 1, Gaps: 2},
		Orders:      api.Orders{Topic: "test/topic/commands", Done: 12, Refused: 3, Failed: 1, Again: 4, Passed: 100, Elsewhere: 6, Unanswered: 1500},
		Sensors: []api.Sensor{
			{Name: "air", Chip: "bme280", Time: ago(4 * time.Second), Age: 4, Seq: 41, Values: api.Values{{Name: "temperature", Value: 21.53}, {Name: "humidity", Value: 48.2}, {Name: "pressure", Value: 101325.0}, {Name: "dew_point", Value: 10.11}},
				Units: map[string]string{"dew_point": "Cel"}},
			{Name: "soil", Chip: "tmp102", Faults: []string{"no_answer"}, FailedReads: 12},
			{Name: "door", Chip: "gpio", Time: ago(26 * time.Hour), Age: 26 * 3600, Seq: 2, Values: api.Values{{Name: "active", Value: true}}},
		},
		Outputs: []api.Output{
			{Name: "pump", State: "on", Since: ago(75 * time.Second), For: 75, Cause: "local uid=1000(pi) pid=4242", Order: "c-81", RefreshLost: 2},
			{Name: "fan", Error: `line is held by "gpio-keys"`, Faults: []string{"line_busy"}},
		},
		Faults: []api.Fault{
			{Code: "network_down", Subject: "broker", Title: "broker cannot be reached", Detail: "nothing listens at a1b2c3.iot.example.com:8883", Meaning: "Nothing answers at the broker's address.", Hint: "Check the port in broker.endpoint, and that the broker runs.", Since: ago(90 * time.Second), For: 90},
			{Code: "line_busy", Subject: "fan", Title: "line is in use", Detail: `held by "gpio-keys"`, Meaning: "Another program has requested this line.", Hint: "Stop that program, or choose another pin.", Since: ago(76 * time.Hour), For: 76 * 3600, Error: true},
			{Code: "no_answer", Subject: "soil", Title: "does not answer", Detail: "nothing answers at 0x48", Meaning: "Nothing answers.", Hint: "Check it.", Since: ago(time.Minute), For: 60, Because: &api.Cause{Code: "bus_stuck", Subject: "i2c-1"}},
		},
	}
}

// The keys are a promise: other programs read them.
func TestStatusInJSON(t *testing.T) {
	r := someStatus()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	goldentest.File(t, "testdata/status.json", append(b, '\n'))
	var back api.Status
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("comes back as %+v, %v", back, err)
	}
}
