package daemontest

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"fieldpost/daemon/systemd"
)

type logWriter struct{ t testing.TB }

// LogWriter gives a writer of whole lines into the test's log. It may be used
// from any goroutine that ends before the test.
func LogWriter(t testing.TB) io.Writer { return logWriter{t} }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// Log is the daemon's own logger at level info, into the test's log.
func Log(t testing.TB) *slog.Logger {
	return slog.New(systemd.NewLogger(LogWriter(t), slog.LevelInfo).Handler())
}
