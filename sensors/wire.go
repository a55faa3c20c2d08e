package sensors

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"fieldpost/sensors/board"
)

// handle is what all of a driver's transports have in common: an I2C bus, an SPI device,
// a serial port, files of the kernel. It adds to them:
//
//   - a budget of transactions per call, because some drivers poll a status
//     bit for ever;
//   - the transport's last error, because periph's drivers flatten errors into
//     text and errno would be lost;
//   - context for errors: what was done, with which chip and where.
//
// Only one goroutine uses it, as with [Sensor].
type handle struct {
	chip   string    // the chip's name in the catalog
	where  string    // "at 0x76 on i2c-1"; may be empty
	name   string    // the transport's name: "i2c-1"
	device io.Closer // nil once closed
	left   int
	over   bool
	last   error
	timer  *time.Timer  // used by pause
	pauser board.Pauser // waits in pause; nil: pause waits
}

// wire is an I2C bus and the address of a chip. It is an [i2c.Bus], so that periph's
// drivers run on it.
type wire struct {
	handle
	bus  i2c.BusCloser
	addr uint16
	out  []byte // the memory of what read and write send
}

var _ i2c.Bus = (*wire)(nil)

// newWire makes a wire and begins the first call.
func newWire(chip string, bus i2c.BusCloser, name string, addr uint16) *wire {
	h := handle{chip: chip, where: fmt.Sprintf("at %#02x on %s", addr, name), name: name, device: bus}
	h.begin()
	return &wire{handle: h, bus: bus, addr: addr}
}

// budget is how many transactions a call may make. A healthy chip needs at most two
// dozen.
const budget = 100

// errBudget ends a call that has used up its budget.
var errBudget = fmt.Errorf("no end after %d transactions: %w", budget, ErrFault)

// begin starts a call: it resets the budget and the last error.
func (h *handle) begin() {
	h.left, h.over, h.last = budget, false, nil
}

// do makes one transaction if the budget allows it.
func (h *handle) do(transaction func() error) error {
	if err := h.admit(); err != nil {
		return err
	}
	h.last = transaction()
	return h.last
}

// admit counts a transaction. It returns an error if there may be none.
func (h *handle) admit() error {
	if h.device == nil {
		h.last = fmt.Errorf("%s: %w", h.name, os.ErrClosed)
		return h.last
	}
	if h.left == 0 {
		h.over = true
		return errBudget
	}
	h.left--
	return nil
}

// pause waits for d, the time of a conversion or a reset. [Chip].Worst includes it.
func (h *handle) pause(d time.Duration) {
	switch {
	case h.pauser != nil:
		h.pauser.Pause(d)
		return
	case h.timer == nil:
		h.timer = time.NewTimer(d)
	default:
		h.timer.Reset(d)
	}
	<-h.timer.C
}

// String returns the bus's name.
func (w *wire) String() string { return w.name }

// SetSpeed returns an error: the device tree sets the speed.
func (w *wire) SetSpeed(physic.Frequency) error {
	return errors.New("set bus speed: a driver may not")
}

// Tx is one transaction.
func (w *wire) Tx(addr uint16, out, in []byte) error {
	if err := w.admit(); err != nil {
		return err
	}
	w.last = w.bus.Tx(addr, out, in)
	return w.last
}

// read reads n bytes from a register.
func (w *wire) read(reg byte, n int) ([]byte, error) {
	b := make([]byte, n)
	w.out = append(w.out[:0], reg)
	err := w.Tx(w.addr, w.out, b)
	return b, err
}

// write writes to a register.
func (w *wire) write(reg byte, values ...byte) error {
	w.out = append(append(w.out[:0], reg), values...)
	return w.Tx(w.addr, w.out, nil)
}

// wrap returns an error as [Sensor] describes it. If the last transaction failed, that is
// its error, whatever the driver has made of it. Otherwise, and if the budget is used up,
// the chip is at fault.
func (h *handle) wrap(verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case h.over:
		err = errBudget
	case h.last != nil:
		return fmt.Errorf("%s %s: %w", verb, h.chip, h.last) // it names address and bus
	case !errors.Is(err, ErrFault) && !errors.Is(err, ErrAbsent) && !errors.Is(err, ErrNotReady):
		err = fmt.Errorf("%w: %w", ErrFault, err)
	}
	return fmt.Errorf("%s %s: %w", verb, strings.TrimSpace(h.chip+" "+h.where), err)
}

// lostSetup returns an [ErrFault]: a register of the chip does not have the value that
// was set.
func lostSetup(register string, got, want uint16) error {
	return faultf("its %s is %#02x (was set to %#02x): the chip lost its power or was exchanged, or another program sets it", register, got, want)
}

// faultf returns an [ErrFault] with details.
func faultf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFault, fmt.Sprintf(format, a...))
}

// close closes the transport. A second call does nothing.
func (h *handle) close() error {
	if h.device == nil {
		return nil
	}
	err := h.device.Close()
	h.device = nil
	return h.wrapClose(err)
}

func (h *handle) wrapClose(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("close %s: %w", h.chip, err)
}

// broken reports whether the last transaction of the last call failed. Then
// [Sensor].Close does not talk to the chip, because on a stuck bus every transaction
// takes its whole timeout.
func (h *handle) broken() bool { return h.last != nil }

// closed reports whether close has been called.
func (h *handle) closed() bool { return h.device == nil }

// uniform reports whether all bytes are 0x00, or all are 0xFF, as on a bus that nobody
// drives or somebody holds.
func uniform(b []byte) bool {
	if len(b) == 0 || b[0] != 0 && b[0] != 0xFF {
		return false
	}
	return !slices.ContainsFunc(b, func(v byte) bool { return v != b[0] })
}

// values makes the fields of a reading, in the order of the quantities, and checks them.
func values(quantities []Quantity, v ...float64) ([]Field, error) {
	fields := make([]Field, len(quantities))
	for i, q := range quantities {
		fields[i] = Field{Name: q.Name, Value: v[i]}
	}
	if err := CheckFields(quantities, fields); err != nil {
		return nil, err
	}
	return fields, nil
}

// CheckFields checks the fields of a reading against the quantities of its sensor. The error is
// an [ErrFault]: there are no fields, a value is neither a number, a bool nor a string, or a
// number is outside of its quantity's limits. Any goroutine.
func CheckFields(quantities []Quantity, fields []Field) error {
	if len(fields) == 0 {
		return faultf("returned no value")
	}
	for _, f := range fields {
		var x float64
		switch v := f.Value.(type) {
		case float64:
			x = v
		case int64:
			x = float64(v)
		case bool, string:
			continue
		default:
			return faultf("%s is a %T", f.Name, v)
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return faultf("%s is %v", f.Name, x)
		}
		for _, q := range quantities {
			if q.Name == f.Name && (x < q.Min || x > q.Max) {
				return faultf("%s of %v %s is outside %v to %v", f.Name, x, q.Symbol(), q.Min, q.Max)
			}
		}
	}
	return nil
}
