//go:build unix

package daemon

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock/clocktest"
	"fieldpost/daemon/doctor"
)

// What other users could read or change is a fault of its subject, until that
// is ended; check says the same.
func TestOpenToOthers(t *testing.T) {
	for _, c := range []struct {
		path         string
		mode, closed fs.FileMode
		subject, say string
	}{
		{"key", 0o644, 0o600, "broker", "key: every user may read it (mode 0644); chmod 0640 "},
		{"cert", 0o666, 0o644, "broker", "cert: every user may write it (mode 0666); chmod o-w "},
		{"ca", 0o646, 0o644, "broker", "ca: every user may write it"},
		{"fieldpost.yaml", 0o666, 0o644, "configuration", "fieldpost.yaml: every user may write it"},
		{"spool", 0o777 | fs.ModeSticky, 0o750, "spool", "spool: every user may put files there"},
		{".", 0o777 | fs.ModeSticky, 0o755, "runtime directory", ": every user may put files there"},
		{".", 0o777, 0o755, "configuration broker runtime directory spool", ": every user may replace what is in it"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := watchExpiry(t, &clocktest.Clock{Boot: "b", Synced: true}, 300*day)
			chmod := func(mode fs.FileMode) {
				t.Helper()
				if err := os.Chmod(filepath.Join(w.dir, c.path), mode); err != nil {
					t.Fatal(err)
				}
			}
			chmod(c.mode)
			w.after(time.Hour, c.path+" open", c.say)
			for _, f := range w.d.health.Current() {
				if f.Fault.Code != "open_to_others" || !strings.Contains(c.subject, f.Subject) {
					t.Errorf("%s: %+v", c.path, f)
				}
			}
			var out bytes.Buffer
			if err := doctor.Check(w.d.config(), doctor.Machine{Runtime: w.dir}, time.Now(), &out); err != nil || !strings.HasPrefix(out.String(), "warning: "+w.dir) || !strings.Contains(out.String(), c.say) {
				t.Errorf("%s: check says %q, %v", c.path, out.String(), err)
			}
			chmod(c.closed)
			w.after(time.Hour, c.path+" closed", "")
		})
	}
}
