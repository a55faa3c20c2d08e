package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
)

// timesOn counts how often the pump, which is active low, was switched on.
func timesOn(s *daemontest.Site) int {
	n := 0
	for _, c := range s.Board.Line("GPIO27").History() {
		if c.Driven && !c.High {
			n++
		}
	}
	return n
}

// answered waits for the daemon's answer to an order.
func answered(t *testing.T, heard <-chan map[string]any, id string) map[string]any {
	t.Helper()
	return daemontest.Await(t, "answer to "+id, heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == id })
}

// An order is done once, though the daemon is started again and the order comes
// again: it gets its first answer, and the line stays as it is. [CMD-4] [CMD-12]
func TestOrderActsOnceOverRestarts(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	r := s.Start(cfg).AwaitLink(t)
	say := s.Publisher("test-mouth")
	text := daemontest.Order("c-1", "on", 30*time.Minute)
	say(text)
	first := answered(t, heard, "c-1")
	if first["status"] != "done" || timesOn(s) != 1 {
		t.Fatalf("answer %v, the pump went on %d times", first, timesOn(s))
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r = s.Start(cfg).AwaitLink(t)
		say(text)
		again := answered(t, heard, "c-1")
		if fmt.Sprint(again) != fmt.Sprint(first) {
			t.Errorf("answer %v, first %v", again, first)
		}
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if n := timesOn(s); n != 1 {
		t.Errorf("the pump went on %d times: %+v", n, s.Board.Line("GPIO27").History())
	}
}

// An order that is refused because the ledger cannot be used stays refused when it
// comes again and the ledger works, in another process. [CMD-14]
func TestRefusedWithoutLedgerStaysRefused(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	journal := filepath.Join(cfg.Spool.Dir, "orders.journal")
	if err := os.MkdirAll(journal, 0o700); err != nil { // where a file should be
		t.Fatal(err)
	}
	r := s.Start(cfg).AwaitLink(t)
	say := s.Publisher("test-mouth")
	text := daemontest.Order("c-1", "on", 30*time.Minute)
	say(text)
	first := answered(t, heard, "c-1")
	if first["reason"] != "no_ledger" {
		t.Fatalf("answer %v", first)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	r = s.Start(cfg).AwaitLink(t)
	say(text)
	again := answered(t, heard, "c-1")
	if fmt.Sprint(again) != fmt.Sprint(first) || timesOn(s) != 0 {
		t.Errorf("answer %v, first %v; the pump went on %d times", again, first, timesOn(s))
	}
	say(daemontest.Order("c-2", "on", 30*time.Minute))
	if a := answered(t, heard, "c-2"); a["status"] != "done" {
		t.Errorf("answer to the next one: %v", a)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

// An order that was begun when the daemon was killed is answered unknown by the
// next start, once, and is not begun again. [CMD-12]
func TestOrderBegunIsAnsweredUnknown(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	r := s.Start(cfg).AwaitLink(t)
	say := s.Publisher("test-mouth")
	text := daemontest.Order("c-1", "on", 30*time.Minute)
	say(text)
	answered(t, heard, "c-1")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Spool.Dir, "orders.journal")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-5], 0o600); err != nil { // the result is torn
		t.Fatal(err)
	}
	r = s.Start(cfg).AwaitLink(t)
	a := answered(t, heard, "c-1")
	if a["status"] != "unknown" || a["reason"] != "no_result" || a["hint"] == nil || a["output"] != "pump" {
		t.Errorf("answer %v", a)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r = s.Start(cfg).AwaitLink(t)
	say(text)
	if a := answered(t, heard, "c-1"); a["status"] != "unknown" {
		t.Errorf("answer %v", a)
	}
	if n := timesOn(s); n != 1 {
		t.Errorf("the pump went on %d times", n)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for len(r.Taken) > 0 {
		if (<-r.Taken).Kind == message.Answer {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d answers in the last run, want the one that was asked for", n)
	}
}

// Where nothing can be recorded nothing is switched on, and that is named; off
// goes through. [CMD-14]
func TestNoLedgerNoEnergy(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	file := filepath.Join(s.Dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Spool.Dir = filepath.Join(file, "spool")
	r := s.Start(cfg)
	daemontest.Await(t, "fault", r.Acked, func(rec message.Record) bool {
		return rec.Kind == message.Fault && strings.Contains(fmt.Sprint(rec.Fields), "ledger_unavailable")
	})
	say := s.Publisher("test-mouth")
	say(daemontest.Order("c-1", "on", time.Minute))
	if a := answered(t, heard, "c-1"); a["status"] != "refused" || a["reason"] != "no_ledger" {
		t.Errorf("answer %v", a)
	}
	say(daemontest.Order("c-2", "off", time.Minute))
	if a := answered(t, heard, "c-2"); a["status"] != "done" {
		t.Errorf("answer %v", a)
	}
	if timesOn(s) != 0 {
		t.Error("the pump went on")
	}
	if err := os.Remove(file); err != nil { // and the end is a good one
		t.Fatal(err)
	}
}

// A daemon that was started without its disk says so of the spool and of the
// orders, and no longer once it has it, though no order comes. [CMD-14]
func TestLedgerComesBackWithTheDisk(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	cfg := s.Config("", "")
	if err := os.WriteFile(cfg.Spool.Dir, nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	r := s.Start(cfg).AwaitLink(t)
	told := func(code, state string) {
		t.Helper()
		daemontest.Await(t, code+" "+state, heard, func(m map[string]any) bool { return m["code"] == code && m["state"] == state })
	}
	say := s.Publisher("test-mouth")
	say(daemontest.Order("c-1", "on", time.Minute))
	if a := answered(t, heard, "c-1"); a["status"] != "refused" || a["reason"] != "no_ledger" {
		t.Errorf("answer %v without a disk", a)
	}
	if err := os.Remove(cfg.Spool.Dir); err != nil {
		t.Fatal(err)
	}
	told("ledger_unavailable", "cleared")
	say(daemontest.Order("c-2", "on", time.Minute))
	if a := answered(t, heard, "c-2"); a["status"] != "done" {
		t.Errorf("answer %v with the disk", a)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}
