package systemd

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// sent is one record as the journal would get it.
type sent struct {
	message string
	p       journal.Priority
	vars    map[string]string
}

func journalLogger(level slog.Level, w *bytes.Buffer, fail error) (*slog.Logger, *[]sent) {
	var got []sent
	send := func(m string, p journal.Priority, vars map[string]string) error {
		if fail != nil {
			return fail
		}
		got = append(got, sent{m, p, vars})
		return nil
	}
	return patient(newHandler(level, journalPut(w, send))), &got
}

// patient waits for each line however long it takes.
func patient(h *handler) *slog.Logger {
	h.out.patience = time.Hour
	return slog.New(h)
}

// A message's id is the journal's own field, and nothing that people read.
func TestMessageID(t *testing.T) {
	const id = "0bf7f70dc5c089299f6d284d8bc53dae"
	log, got := journalLogger(slog.LevelInfo, nil, nil)
	log.Warn("bus is stuck", "bus", "i2c-1", MessageID(id))
	if r := (*got)[0]; r.message != "bus is stuck bus=i2c-1" || r.vars["MESSAGE_ID"] != id || r.vars["FIELDPOST_MESSAGE_ID"] != "" {
		t.Errorf("sent %q with %v", r.message, r.vars)
	}
	var text bytes.Buffer
	patient(newHandler(slog.LevelInfo, textPut(&text))).Warn("bus is stuck", MessageID(id))
	if strings.Contains(text.String(), id) {
		t.Errorf("written: %s", text.String())
	}
}

func TestJournalFields(t *testing.T) {
	log, got := journalLogger(slog.LevelInfo, nil, nil)
	log.With("sensor", "air").WithGroup("i2c").Warn("does not answer", "code", "no_answer", slog.Group("at", "address", 0x76))
	log.Debug("not shown")
	if len(*got) != 1 {
		t.Fatalf("got %d records, want 1: %v", len(*got), *got)
	}
	r := (*got)[0]
	if want := "does not answer sensor=air i2c.code=no_answer i2c.at.address=118"; r.message != want {
		t.Errorf("message %q, want %q", r.message, want)
	}
	if r.p != journal.PriWarning {
		t.Errorf("priority %d, want %d", r.p, journal.PriWarning)
	}
	for k, want := range map[string]string{
		"SYSLOG_IDENTIFIER": "fieldpost", "FIELDPOST_SENSOR": "air",
		"FIELDPOST_I2C_CODE": "no_answer", "FIELDPOST_I2C_AT_ADDRESS": "118",
	} {
		if r.vars[k] != want {
			t.Errorf("%s=%q, want %q", k, r.vars[k], want)
		}
	}
}

func TestJournalPriorities(t *testing.T) {
	for level, want := range map[slog.Level]journal.Priority{
		slog.LevelError: journal.PriErr, slog.LevelWarn: journal.PriWarning,
		slog.LevelInfo: journal.PriInfo, slog.LevelDebug: journal.PriDebug,
	} {
		if got := priority(level); got != want {
			t.Errorf("priority(%v) = %d, want %d", level, got, want)
		}
	}
}

// A journal that cannot be reached must not swallow the line.
func TestJournalAway(t *testing.T) {
	var w bytes.Buffer
	log, _ := journalLogger(slog.LevelInfo, &w, errors.New("no socket"))
	log.Error("spool cannot be written", "err", "no space left\non device")
	if got, want := w.String(), "<3>spool cannot be written err=\"no space left\\non device\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFieldNamesAreValid(t *testing.T) {
	vars := fields([]slog.Attr{slog.String("größe.x-"+strings.Repeat("y", 80), "1")})
	for k := range vars {
		if len(k) > 64 || strings.Trim(k, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			t.Errorf("field name %q is not valid", k)
		}
	}
}

func TestTextOnATerminal(t *testing.T) {
	var w bytes.Buffer
	log := patient(newHandler(slog.LevelInfo, textPut(&w)))
	log.Info("connected", "endpoint", "127.0.0.1:8883", "took", 12*time.Millisecond, "note", "two words", "empty", "")
	got := w.String()
	if want := " info  connected endpoint=127.0.0.1:8883 took=12ms note=\"two words\" empty=\"\"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want it to end in %q", got, want)
	}
}

// The handler keeps slog's own contract.
func TestHandlerContract(t *testing.T) {
	var results []map[string]any
	h := newHandler(slog.LevelDebug, func(r slog.Record, attrs []slog.Attr) func() {
		m := map[string]any{slog.LevelKey: r.Level, slog.MessageKey: r.Message}
		if !r.Time.IsZero() {
			m[slog.TimeKey] = r.Time
		}
		for _, a := range attrs {
			nest(m, strings.Split(a.Key, "."), a.Value.Any())
		}
		return func() { results = append(results, m) }
	})
	patient(h)
	if err := slogtest.TestHandler(h, func() []map[string]any { return results }); err != nil {
		t.Error(err)
	}
}

func nest(m map[string]any, path []string, v any) {
	for ; len(path) > 1; path = path[1:] {
		in, ok := m[path[0]].(map[string]any)
		if !ok {
			in = map[string]any{}
			m[path[0]] = in
		}
		m = in
	}
	m[path[0]] = v
}
