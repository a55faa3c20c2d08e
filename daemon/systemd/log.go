package systemd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// NewLogger returns the program's logger. If standard error is connected to the journal, each
// record goes there, with its attributes as fields (FIELDPOST_SENSOR=air besides sensor=air
// in the message). Otherwise each record is a line of text on w.
//
// If the journal or w hangs, only the caller of the first line waits, for a quarter of a
// second at most. Up to 500 later lines wait in memory. Further ones are counted, and the
// number is logged once lines can be written again.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	if ok, err := journal.StderrIsJournalStream(); err == nil && ok && journal.Enabled() {
		return slog.New(newHandler(level, journalPut(w, journal.Send)))
	}
	return slog.New(newHandler(level, textPut(w)))
}

// messageID is the key of [MessageID]'s attribute.
const messageID = "message_id"

// MessageID is an attribute that gives a record the journal's MESSAGE_ID, 32
// hexadecimal digits, by which the catalog explains it. It is a field of the journal
// only, and nothing of the text.
func MessageID(id string) slog.Attr { return slog.String(messageID, id) }

// handler is a slog.Handler that lets put format each record and then writes it.
type handler struct {
	level slog.Leveler
	attrs []slog.Attr // flattened, with the group's prefix
	group string
	put   putter
	out   *asyncWriter
}

// putter formats a record and its attributes, and returns a function that writes them.
type putter func(r slog.Record, attrs []slog.Attr) (write func())

func newHandler(level slog.Leveler, put putter) *handler {
	return &handler{level: level, put: put, out: newAsyncWriter(func(lost int) func() {
		return put(slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were lost: the journal did not accept them", 0), []slog.Attr{slog.Int("lost", lost)})
	})}
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.group, a)
		return true
	})
	h.out.writeLine(h.put(r, attrs))
	return nil
}

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	c := *h
	c.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range as {
		c.attrs = flatten(c.attrs, h.group, a)
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	if name != "" {
		c.group += name + "."
	}
	return &c
}

// flatten appends a to attrs, or the members of a if it is a group.
func flatten(attrs []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			attrs = flatten(attrs, prefix, m)
		}
		return attrs
	}
	if a.Key == "" {
		return attrs
	}
	return append(attrs, slog.Attr{Key: prefix + a.Key, Value: v})
}

// line returns "message key=value key=value"; values with spaces are quoted.
func line(msg string, attrs []slog.Attr) string {
	var b strings.Builder
	b.WriteString(msg)
	for _, a := range attrs {
		if a.Key == messageID {
			continue
		}
		v := a.Value.String()
		if v == "" || strings.ContainsAny(v, " \t\n\"=") {
			v = strconv.Quote(v)
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, v)
	}
	return b.String()
}

// textPut writes "15:04:05 warn  message key=value".
func textPut(w io.Writer) putter {
	return func(r slog.Record, attrs []slog.Attr) func() {
		at := r.Time
		if at.IsZero() {
			at = time.Now()
		}
		text := fmt.Sprintf("%s %-5s %s\n", at.Format(time.TimeOnly), strings.ToLower(r.Level.String()), line(r.Message, attrs))
		return func() { _, _ = io.WriteString(w, text) } // an error could not be logged either
	}
}

// journalPut sends to the journal. If that fails, the line goes to w, which journald reads
// too, with the priority in front (sd-daemon(3)).
func journalPut(w io.Writer, send func(string, journal.Priority, map[string]string) error) putter {
	return func(r slog.Record, attrs []slog.Attr) func() {
		p, text, vars := priority(r.Level), line(r.Message, attrs), fields(attrs)
		return func() {
			if err := send(text, p, vars); err != nil {
				_, _ = fmt.Fprintf(w, "<%d>%s\n", p, strings.ReplaceAll(text, "\n", " ")) // an error could not be logged either
			}
		}
	}
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// fields returns the journal's fields for attrs. A field's name may have only
// capital letters, digits and underscores, and 64 of them.
func fields(attrs []slog.Attr) map[string]string {
	vars := map[string]string{"SYSLOG_IDENTIFIER": "fieldpost", "SYSLOG_PID": strconv.Itoa(os.Getpid())}
	for _, a := range attrs {
		if a.Key == messageID {
			vars["MESSAGE_ID"] = a.Value.String()
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z':
				return r - 'a' + 'A'
			case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
				return r
			}
			return '_'
		}, "FIELDPOST_"+a.Key)
		vars[name[:min(len(name), 64)]] = a.Value.String()
	}
	return vars
}
