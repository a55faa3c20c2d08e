package daemon_test

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
)

// A configuration that no longer holds is garbage: nothing of the daemon keeps it, but for the
// last ones that a goroutine may not have left behind yet.
func TestReloadedConfigurationsAreGarbage(t *testing.T) {
	const reloads, left = 12, 4
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	r := s.Start(s.Config(door, fan)).AwaitLink(t)
	var all []weak.Pointer[config.Config]
	for n := range reloads {
		cfg := s.Config(door, fan)
		if n%2 == 0 {
			cfg = s.Config(door+"\n"+soil, fan+"\n  - {name: lamp, pin: GPIO6, max_on: 1h}")
		}
		all = append(all, weak.Make(cfg))
		swap(t, r, cfg)
	}
	kept := reloads
	for end := time.Now().Add(daemontest.Patience); kept > left && time.Now().Before(end); {
		runtime.GC()
		kept = 0
		for _, p := range all {
			if p.Value() != nil {
				kept++
			}
		}
	}
	if kept > left {
		t.Errorf("%d of %d configurations are kept, want at most %d", kept, reloads, left)
	}
}
