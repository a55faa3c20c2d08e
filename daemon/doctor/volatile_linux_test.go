package doctor_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/doctor"
	"fieldpost/daemon/durable"
)

// Check says where the spool would be lost, and the daemon may still run there.
func TestCheckVolatileSpool(t *testing.T) {
	s := newMachine(t)
	cfg := s.config("", "")
	for _, dir := range []string{"/dev/shm", cfg.Spool.Dir} {
		cfg.Spool.Dir = dir
		var out bytes.Buffer
		if err := doctor.Check(cfg, doctor.Machine{Board: s.board}, time.Now(), &out); err != nil {
			t.Errorf("%s: %v\n%s", dir, err, out.String())
		}
		if said := strings.Contains(out.String(), "warning: spool.dir: "+dir+" is "); said != (durable.Volatile(dir) != "") {
			t.Errorf("%s: is it said: %v\n%s", dir, said, out.String())
		}
	}
}
