package board

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/pin/pinreg"
	"periph.io/x/host/v3"
)

// register registers the machine's buses and lines with periph, instead of what periph
// has registered under their names. It returns what it could not register.
func (m *Machine) register() (notes []string) {
	for _, name := range m.Buses() {
		if err := m.registerBus(name); err != nil {
			notes = append(notes, err.Error())
		}
	}
	for _, err := range m.registerLines(m.Chips()) {
		notes = append(notes, err.Error())
	}
	return notes
}

func (m *Machine) registerBus(name string) error {
	number, err := busNumber(name)
	if err != nil {
		return err
	}
	path := filepath.Join("/dev", name)
	for _, ref := range i2creg.All() {
		if ref.Number == number || ref.Name == path {
			if err := i2creg.Unregister(ref.Name); err != nil {
				return fmt.Errorf("replace bus %s: %w", name, err)
			}
		}
	}
	open := func() (i2c.BusCloser, error) { return m.Bus(name) }
	aliases := []string{name, fmt.Sprintf("I2C%d", number)}
	if err := i2creg.Register(path, aliases, number, open); err != nil {
		return fmt.Errorf("register bus %s: %w", name, err)
	}
	return nil
}

// registerLines registers every line under its kernel name, or under label:offset if that
// is empty or not unique. It also registers a Raspberry Pi's lines as GPIO17 and P1_11.
func (m *Machine) registerLines(chips []ChipInfo) (errs []error) {
	count := map[string]int{}
	for _, c := range chips {
		for _, l := range c.Lines {
			count[l.Name]++
		}
	}
	for _, c := range chips {
		if c.Err != nil {
			errs = append(errs, c.Err)
			continue
		}
		for offset, l := range c.Lines {
			id := lineID(chips, c, offset)
			name := l.Name
			if name == "" || count[name] > 1 {
				name = fmt.Sprintf("%s:%d", id.Label, offset)
			}
			errs = append(errs, replacePin(&linePin{m: m, id: id, name: name}))
			if isPiChip(c.Label) {
				errs = append(errs, aliasGPIO(offset, name))
			}
		}
	}
	kept := errs[:0]
	for _, err := range errs {
		if err != nil {
			kept = append(kept, err)
		}
	}
	return kept
}

// replacePin registers a pin instead of the pin or alias that has its name.
func replacePin(p *linePin) error {
	if gpioreg.ByName(p.name) != nil {
		if err := gpioreg.Unregister(p.name); err != nil {
			return fmt.Errorf("replace line %s: %w", p.id, err)
		}
	}
	if err := gpioreg.Register(p); err != nil {
		return fmt.Errorf("register line %s: %w", p.id, err)
	}
	return nil
}

// aliasGPIO registers a Raspberry Pi's line as GPIO17 and P1_11.
func aliasGPIO(n int, name string) error {
	aliases := []string{fmt.Sprintf("GPIO%d", n)}
	for i, gpio := range header40 {
		if gpio == n {
			aliases = append(aliases, fmt.Sprintf("P1_%d", i+1))
		}
	}
	for _, alias := range aliases {
		if alias == name {
			continue
		}
		if p := gpioreg.ByName(alias); p != nil {
			if err := gpioreg.Unregister(alias); err != nil {
				return fmt.Errorf("replace line %s: %w", alias, err)
			}
		}
		if err := gpioreg.RegisterAlias(alias, name); err != nil {
			return fmt.Errorf("register line %s as %s: %w", name, alias, err)
		}
	}
	return nil
}

// otherHeader matches pins of headers that only periph's board tables have.
var otherHeader = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([A-Z][A-Z0-9]*)_([1-9][0-9]?)$`) })

// headerLine asks periph for the line of a header's pin, such as P5_3 of the first
// Raspberry Pi.
func (m *Machine) headerLine(name string) (Line, bool) {
	if !otherHeader().MatchString(name) || isHeaderPin(name) {
		return Line{}, false
	}
	if err := boardTables(m); err != nil {
		slog.Debug("periph's tables of boards are not loaded", "err", err)
		return Line{}, false
	}
	parts := otherHeader().FindStringSubmatch(name)
	number := 0
	for _, row := range pinreg.All()[parts[1]] {
		for _, p := range row {
			number++
			if fmt.Sprint(number) != parts[2] {
				continue
			}
			if r, ok := p.(gpio.RealPin); ok {
				p = r.Real()
			}
			l, err := ParseLine(p.Name())
			return l, err == nil
		}
	}
	return Line{}, false
}

var (
	tablesOnce sync.Once
	errTables  error
)

// boardTables lets periph initialise itself, once per process, and registers our buses
// and lines again afterwards. The program does not do that at its start, because periph
// then asks for every line a second time and keeps what it opens, and adds only the
// headers of a few old boards.
func boardTables(m *Machine) error {
	tablesOnce.Do(func() {
		if errTables = safeForPeriph(m.dev, os.Geteuid()); errTables != nil {
			return
		}
		errTables = errors.Join(keepStdin(func() error { return quietly(initHost) })...)
		m.register()
	})
	return errTables
}

// safeForPeriph says why host.Init must not be called.
func safeForPeriph(dev string, uid int) error {
	if uid == 0 {
		// On a Raspberry Pi 5 it would write to /dev/mem at a Pi 4's addresses.
		return errors.New("not as root")
	}
	paths, _ := filepath.Glob(filepath.Join(dev, "gpiochip*")) // the pattern is well formed
	for _, path := range paths {
		if target, err := os.Readlink(path); err == nil {
			// It closes the second name of a chip, and with it descriptor 0.
			return fmt.Errorf("%s is a link to %s", path, target)
		}
	}
	return nil
}

// initHost calls host.Init. It only logs drivers that fail: most are for other boards.
func initHost() error {
	state, err := host.Init()
	if err != nil {
		return fmt.Errorf("initialise periph: %w", err)
	}
	for _, f := range state.Failed {
		slog.Debug("periph driver not loaded", "driver", f.D.String(), "err", f.Err)
	}
	return nil
}

// quietly calls fn and logs with slog, as debug, what fn writes to the standard log. It
// does so after fn has returned, because slog's default handler itself writes to the
// standard log.
func quietly(fn func() error) error {
	var text bytes.Buffer
	before := log.Writer()
	log.SetOutput(&text)
	err := fn()
	log.SetOutput(before)
	for line := range strings.Lines(text.String()) {
		slog.Debug("periph", "text", strings.TrimSpace(line))
	}
	return err
}

// keepStdin calls fn and opens descriptor 0 again if fn has closed it.
func keepStdin(fn func() error) []error {
	saved, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return []error{fn()} // there is no descriptor 0
	}
	errs := []error{fn()}
	if _, err := unix.FcntlInt(0, unix.F_GETFD, 0); errors.Is(err, unix.EBADF) {
		errs = append(errs, unix.Dup3(saved, 0, 0))
	}
	return append(errs, unix.Close(saved))
}
