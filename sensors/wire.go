package sensors

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// wire is an I2C bus with a chip at its end, as a driver is given it. It is an
// [i2c.Bus] with two things added that periph's drivers need around them:
//
//   - a budget of transactions per call, because some drivers poll a status
//     bit for ever;
//   - the bus's last error, because they flatten errors into text and errno
//     would be lost.
//
// Only one goroutine uses it, as with [Sensor].
type wire struct {
	bus  i2c.BusCloser // nil once closed
	name string        // the bus's name
	chip string
	addr uint16
	left int
	over bool
	last error
}

var _ i2c.Bus = (*wire)(nil)

// budget is how many transactions a call may take. The most that a healthy
// chip needs is two dozen.
const budget = 100

// errBudget ends a call that has used its budget up.
var errBudget = fmt.Errorf("no end after %d transactions: %w", budget, ErrFault)

// begin starts a call: the budget is full again, the last error forgotten.
func (w *wire) begin() {
	w.left, w.over, w.last = budget, false, nil
}

// String names the bus.
func (w *wire) String() string { return w.name }

// SetSpeed is refused: the speed belongs to the device tree.
func (w *wire) SetSpeed(physic.Frequency) error {
	return errors.New("set bus speed: a driver may not")
}

// Tx is one transaction, if the budget allows it.
func (w *wire) Tx(addr uint16, out, in []byte) error {
	if w.bus == nil {
		w.last = fmt.Errorf("bus %s: %w", w.name, os.ErrClosed)
		return w.last
	}
	if w.left == 0 {
		w.over = true
		return errBudget
	}
	w.left--
	w.last = w.bus.Tx(addr, out, in)
	return w.last
}

// read reads n bytes from a register.
func (w *wire) read(reg byte, n int) ([]byte, error) {
	b := make([]byte, n)
	err := w.Tx(w.addr, []byte{reg}, b)
	return b, err
}

// write writes to a register.
func (w *wire) write(reg byte, values ...byte) error {
	return w.Tx(w.addr, append([]byte{reg}, values...), nil)
}

// wrap says what failed, in the terms of [Sensor]: the spent budget and
// whatever a driver objects to while the bus is well is a fault of the chip;
// otherwise it is the bus's own error, whatever the driver has made of it.
func (w *wire) wrap(verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case w.over:
		err = errBudget
	case w.last != nil:
		return fmt.Errorf("%s %s: %w", verb, w.chip, w.last) // names address and bus itself
	case !errors.Is(err, ErrFault) && !errors.Is(err, ErrAbsent):
		err = fmt.Errorf("%w: %w", ErrFault, err)
	}
	return fmt.Errorf("%s %s at %#02x on %s: %w", verb, w.chip, w.addr, w.name, err)
}

// lostSetup is an [ErrFault]: a register of the chip does not hold what it was
// set to.
func lostSetup(register string, got, want uint16) error {
	return faultf("its %s is %#02x (was set to %#02x): it lost its power or was exchanged, or something else sets it", register, got, want)
}

// faultf is an [ErrFault] with its circumstances.
func faultf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFault, fmt.Sprintf(format, a...))
}

// close frees the bus. The second time it does nothing.
func (w *wire) close() error {
	if w.bus == nil {
		return nil
	}
	err := w.bus.Close()
	w.bus = nil
	return w.wrapClose(err)
}

func (w *wire) wrapClose(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("close %s: %w", w.chip, err)
}

// broken tells whether the last transaction of the last call has failed. Then
// [Sensor].Close says nothing more to the chip: on a bus that is stuck every
// transaction costs its time-out.
func (w *wire) broken() bool { return w.last != nil }

// closed tells whether close has been called.
func (w *wire) closed() bool { return w.bus == nil }

// uniform tells whether all bytes are the same 0x00 or 0xFF: what a bus gives
// when nobody drives it, or somebody holds it.
func uniform(b []byte) bool {
	if len(b) == 0 || b[0] != 0 && b[0] != 0xFF {
		return false
	}
	return !slices.ContainsFunc(b, func(v byte) bool { return v != b[0] })
}

// values makes the fields of a reading, in the order of the quantities, and
// refuses what the datasheet says cannot be.
func values(quantities []Quantity, v ...float64) ([]Field, error) {
	fields := make([]Field, len(quantities))
	for i, q := range quantities {
		if !(v[i] >= q.Min && v[i] <= q.Max) {
			return nil, faultf("%s of %g %s is outside %g to %g", q.Name, v[i], q.Unit, q.Min, q.Max)
		}
		fields[i] = Field{Name: q.Name, Value: v[i]}
	}
	return fields, nil
}
