package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/goldentest"
)

// someStatus has every key.
func someStatus(t *testing.T) (s api.Status) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "api", "testdata", "status.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrintStatus(t *testing.T) {
	r := someStatus(t)
	var text bytes.Buffer
	if err := client.PrintStatus(&text, r); err != nil {
		t.Fatal(err)
	}
	goldentest.File(t, "testdata/status.txt", text.Bytes())

	// A board that is well, and one of whose disk nothing good can be said.
	r.ClockSynced, r.Link.Connected, r.Link.Next, r.Link.Denied, r.Link.LastError.Over = true, true, time.Time{}, nil, true
	r.Link.SessionsLost, r.Link.Dropped, r.Link.Ping, r.Link.Idle = 0, 0, 0, 0
	r.Spool.Writable, r.Spool.Waiting, r.Spool.Bytes, r.Uptime, r.Link.For = false, 0, 74, 3700, 7.25
	r.Certificate.Error = `the files cannot be read: the disk has not answered for 12s`
	r.Sensors, r.Outputs, r.Faults = nil, nil, nil
	text.Reset()
	if err := client.PrintStatus(&text, r); err != nil {
		t.Fatal(err)
	}
	r.Certificate.Error, r.Certificate.Expires, r.Spool.Bytes = "", r.Time.Add(-time.Hour), 2048
	if err := client.PrintStatus(&text, r); err != nil {
		t.Fatal(err)
	}
	goldentest.File(t, "testdata/status-well.txt", text.Bytes())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no paper") }

func TestStatusCannotBePrinted(t *testing.T) {
	if err := client.PrintStatus(broken{}, someStatus(t)); err == nil {
		t.Error("no error")
	}
}
