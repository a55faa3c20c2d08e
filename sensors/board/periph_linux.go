package board

import (
	"fmt"
	"path/filepath"

	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
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
