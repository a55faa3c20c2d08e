package daemon

import (
	"errors"
	"fmt"
	"io"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// ErrConfig is the reason when the configuration is at fault: exit status 78.
var ErrConfig = errors.New("configuration is not usable")

// Check examines everything that can be examined without the broker: the
// configuration (already loaded), the credentials, and, where b is not nil,
// whether this machine has the buses and lines. It prints one line a finding
// to w, and the lines of a Raspberry Pi's config.txt that give its outputs their
// levels before any program runs, and returns an error wrapping [ErrConfig] if
// anything prevents the daemon from doing its work.
func Check(cfg *config.Config, b board.Board, now time.Time, w io.Writer) error {
	bad := 0
	for _, p := range uplink.CheckCredentials(cfg.Broker.CA, cfg.Broker.Certificate, cfg.Broker.Key, now) {
		if !p.Warning {
			bad++
		}
		fmt.Fprintln(w, p)
	}
	if b != nil {
		bad += checkHardware(cfg, b, w)
	}
	powerOn(cfg, b, w)
	if bad > 0 {
		return fmt.Errorf("%w: %d problems in %s or what it names", ErrConfig, bad, cfg.File)
	}
	fmt.Fprintf(w, "%s: well (%d sensors, %d outputs, broker %s as %s)\n",
		cfg.File, len(cfg.Sensors), len(cfg.Outputs), cfg.Endpoint(), cfg.Broker.ClientID)
	return nil
}

// checkHardware looks for each bus and line without requesting any line.
func checkHardware(cfg *config.Config, b board.Board, w io.Writer) (bad int) {
	report := func(what, name string, err error) {
		if err != nil {
			bad++
			fmt.Fprintf(w, "error: %s %q: %v\n", what, name, err)
		}
	}
	for _, s := range cfg.Sensors {
		report("sensor", s.Name, checkSensor(s, b))
	}
	lines := map[string]string{}
	for _, o := range cfg.Outputs {
		id, err := b.Find(o.Pin)
		if err == nil {
			key := fmt.Sprintf("%s:%d", id.Label, id.Offset)
			if other, taken := lines[key]; taken {
				err = fmt.Errorf("line %s is also output %q's", id, other)
			}
			lines[key] = o.Name
		}
		report("output", o.Name, err)
	}
	return bad
}

func checkSensor(s sensors.Config, b board.Board) error {
	if s.Pin != "" {
		_, err := b.Find(s.Pin)
		return err
	}
	if s.Bus != "" {
		bus, err := b.Bus(s.Bus)
		if err != nil {
			return err
		}
		return bus.Close()
	}
	return nil
}
