// Package doctor checks whether a daemon can do its work: its configuration and files, this
// machine, and the way to the broker. It says what is wrong and what to do about it.
package doctor

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/config"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// Machine is the machine that the daemon is to run on.
type Machine struct {
	Board   board.Board // nil: buses and lines are not checked
	Runtime string      // the directory of the crash record
	Systemd int         // the version of systemd; 0 if there is none or it is unknown
}

// Check checks everything that can be checked without the broker: the configuration (already
// loaded), the credentials, and, if there is a board, whether this machine has the buses,
// chip addresses, thermal zones and lines and whether they are free. It prints one finding
// per line to w, and then the lines of a Raspberry Pi's config.txt that set the levels of its
// outputs before any program runs. If anything prevents the daemon from doing its work, the
// error wraps [config.ErrUnusable].
//
// Check also warns about files that other users can read or change, about a spool that does not
// survive a power cut and about a web page that other machines see without TLS, and notes if systemd releases the lines of a stopped unit. None of
// these makes it fail.
//
// policies are files with the AWS IoT policies that are attached to the certificate. An
// action that the daemon needs and they deny is a problem; a trap in them is a warning.
func Check(cfg *config.Config, m Machine, now time.Time, w io.Writer, policies ...string) error {
	bad := 0
	shown := cfg
	if unprovisioned(cfg) {
		fmt.Fprintf(w, "note: %s\n", unprovisionedText)
		shown = asClaim(cfg)
	}
	for _, p := range uplink.CheckFiles(filesOf(shown), now) {
		if !p.Warning {
			bad++
		}
		fmt.Fprintln(w, p)
	}
	open := access.Look(cfg.Places(m.Runtime))
	for _, subject := range access.Subjects {
		for _, o := range open[subject] {
			fmt.Fprintf(w, "warning: %v\n", o)
		}
	}
	if m.Board != nil {
		bad += checkHardware(cfg, m.Board, w)
	}
	powerOn(cfg, m.Board, w)
	volatile(cfg, w)
	stopped(cfg, m.Systemd, w)
	firewall(cfg, m.Systemd, w)
	plainPage(cfg, w)
	if len(policies) > 0 {
		n, err := checkPolicies(cfg, policies, w)
		if err != nil {
			return err
		}
		bad += n
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d problems in %s or in the files that it names", config.ErrUnusable, bad, cfg.File)
	}
	fmt.Fprintf(w, "%s: ok (%d sensors, %d outputs, broker %s as %s)\n",
		cfg.File, len(cfg.Sensors), len(cfg.Outputs), cfg.Endpoint(), cfg.Broker.ClientID)
	return nil
}

// filesOf returns the files of the credentials.
func filesOf(cfg *config.Config) uplink.CredentialFilesConfig {
	b := cfg.Broker
	return uplink.CredentialFilesConfig{CA: b.CA, Certificate: b.Certificate, Key: b.Key, Password: b.PasswordFile}
}

// accessOf returns what else the broker or the network requires: user name and password,
// proxy, ALPN.
func accessOf(cfg *config.Config) uplink.Access {
	b := cfg.Broker
	return uplink.Access{Username: b.Username, PasswordFile: b.PasswordFile, Proxy: b.Proxy, ALPN: b.ALPN}
}

// hardware checks what a configuration needs from a board, and records what it has found so
// far.
type hardware struct {
	board board.Board
	w     io.Writer
	bad   int
	lines map[string]string // the user of a line, by "label:offset"
	chips map[string]string // the sensor at an address, by "i2c-1 0x76"
	buses map[string]string // the first sensor on a bus, by "i2c-1"
	ports map[string]port   // the first sensor on a serial port, by "ttyAMA0"
}

// port is a serial port under the name that a sensor has for it.
type port struct{ name, sensor string }

// checkHardware checks that the board has everything that a run needs from it. It requests no
// line and sends nothing to a chip.
func checkHardware(cfg *config.Config, b board.Board, w io.Writer) (bad int) {
	h := &hardware{board: b, w: w, lines: map[string]string{}, chips: map[string]string{}, buses: map[string]string{}, ports: map[string]port{}}
	for _, s := range cfg.Sensors {
		h.report("sensor", s.Name, h.chip(s))
	}
	for _, s := range cfg.Sensors {
		for _, l := range s.Lines() {
			h.report("sensor", s.Name, h.line("sensor", s.Name, l.Line))
		}
	}
	for _, o := range cfg.Outputs {
		if o.PWM != "" {
			_, err := b.FindPWM(o.PWM)
			h.report("output", o.Name, err)
			continue
		}
		h.report("output", o.Name, h.line("output", o.Name, o.Pin))
	}
	return h.bad
}

// report prints a problem, if there is one, and counts it.
func (h *hardware) report(what, name string, err error) {
	if err != nil {
		h.bad++
		fmt.Fprintf(h.w, "error: %s %q: %v\n", what, name, err)
	}
}

// chip checks what a sensor needs other than a line: a bus and an address on it, or a thermal
// zone.
func (h *hardware) chip(s sensors.Config) error {
	chip, ok := sensors.Lookup(s.Chip)
	at := s.Place()
	if !ok || at.Pin != "" {
		return nil // the loader has refused unknown chips
	}
	if err := chip.Look(h.board, s); err != nil {
		return err
	}
	if at.Port != "" {
		return h.serial(s.Name, at.Port)
	}
	if at.Bus == "" {
		return nil
	}
	bus, err := h.board.Bus(at.Bus)
	if err != nil {
		return err
	}
	name := bus.String()
	if err := bus.Close(); err != nil {
		return err
	}
	if h.buses[name] == "" {
		h.buses[name] = s.Name
	}
	place := fmt.Sprintf("%s 0x%02x", name, at.Address)
	if other, taken := h.chips[place]; taken {
		return fmt.Errorf("%s is already used by sensor %q, under another name for the bus", place, other)
	}
	h.chips[place] = s.Name
	return nil
}

// serial checks that a serial port is one sensor's only and not the kernel's console. What
// can share a port was checked by the loader, for ports of one name.
func (h *hardware) serial(sensor, name string) error {
	real := board.SerialPort(h.board.Root(), name)
	if board.IsConsole(h.board.Root(), real) {
		return fmt.Errorf("%s is the kernel's console, which writes to it; on a Raspberry Pi switch the login shell on the serial port off in raspi-config, or remove its console= from cmdline.txt", real)
	}
	first, used := h.ports[real]
	if used && first.name != name {
		return fmt.Errorf("%s is already used by sensor %q, as %s; give both the same device", real, first.sensor, first.name)
	}
	if !used {
		h.ports[real] = port{name, sensor}
	}
	return nil
}

// line checks the line that a sensor or an output needs.
func (h *hardware) line(what, name, pin string) error {
	id, err := h.board.Find(pin)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%s:%d", id.Label, id.Offset)
	if other, taken := h.lines[key]; taken {
		return fmt.Errorf("line %s is also used by %s", id, other)
	}
	h.lines[key] = fmt.Sprintf("%s %q", what, name)
	for _, bus := range slices.Sorted(maps.Keys(h.buses)) {
		if board.OnBus(h.board.Root(), bus, id) {
			return fmt.Errorf("line %s is used by the bus %s of sensor %q, which would stop working; choose another pin", id, bus, h.buses[bus])
		}
	}
	return board.Free(h.board, id)
}
