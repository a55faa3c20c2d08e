package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"

	"periph.io/x/conn/v3/i2c"
)

// stalls is how long a transaction may take before its bus is reported as stuck and left
// alone.
const stalls = 3 * time.Second

// mostWrong is the number of addresses with wrong answers after which the bus is taken to
// be broken: a wire is held, or the adapter cannot read a byte.
const mostWrong = 5

// Use is an address that a running daemon reads.
type Use struct {
	Sensor  string // the sensor's name
	Chip    string
	Bus     string // as in the configuration
	Address uint16
}

// notForChips are parts of the names of adapters that are not for sensors: a PC's SMBus,
// where reads may lock up its clock chip, and the buses of displays.
var notForChips = []string{"smbus", "gmbus", "ddc", "aux", "nvidia", "amdgpu", "radeon", "i915"}

// probeBus probes every address of a bus. It does not wait for a stuck bus: then the
// goroutine that talks to it stays blocked in the kernel until the transaction ends.
func probeBus(ctx context.Context, b board.Board, a board.Adapter, used []Use) Bus {
	bus := Bus{Name: a.Bus, Adapter: a.Name, Found: []Found{}}
	for _, part := range notForChips {
		if strings.Contains(strings.ToLower(a.Name), part) {
			bus.Problem = "is not probed, because its adapter is for the machine's own parts or a display"
			return bus
		}
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	found := make(chan *Found, 2*last) // never full: each address sends at most one
	ended := make(chan error, 1)
	go func() { ended <- probeAddresses(work, b, a.Bus, used, found) }()
	stall := time.NewTimer(stalls)
	defer stall.Stop()
	take := func(f *Found) {
		if f != nil {
			bus.Found = append(bus.Found, *f)
		}
	}
	for {
		select {
		case f := <-found:
			take(f)
			stall.Reset(stalls)
			continue
		case err := <-ended:
			for len(found) > 0 {
				take(<-found)
			}
			if err != nil {
				bus.Problem = err.Error()
			}
		case <-stall.C:
			bus.Problem = fmt.Sprintf("is stuck: a transaction has not ended after %v. Check SDA and SCL, each must be at 3.3 V; take chips off until it works", stalls)
		case <-ctx.Done():
			bus.Problem = "was not probed completely: " + ctx.Err().Error()
		}
		slices.SortFunc(bus.Found, func(a, b Found) int { return int(a.Address) - int(b.Address) })
		return bus
	}
}

// probeAddresses sends what it finds at each address, or nil if nothing answers.
func probeAddresses(ctx context.Context, b board.Board, name string, used []Use, found chan<- *Found) (err error) {
	bus, err := b.Bus(name)
	if err != nil {
		return err
	}
	defer bus.Close()
	late, wrong, unknown := 0, 0, false
	for _, addr := range order() {
		if ctx.Err() != nil {
			return nil
		}
		f, err := probeAddress(bus, b.Root(), addr, used, unknown)
		if f != nil && f.Note != "" {
			if wrong++; wrong == mostWrong {
				return fmt.Errorf("cannot be probed: address after address %s", f.Note)
			}
		}
		found <- f
		switch {
		case errors.Is(err, syscall.ETIMEDOUT):
			if late++; late == 2 {
				return fmt.Errorf("is stuck: %w. Check SDA and SCL, each must be at 3.3 V; take chips off until it works", err)
			}
		case err != nil && f == nil:
			return err
		}
		unknown = unknown || f != nil && f.Chip == "" && f.Driver == "" && f.Sensor == "" && addr >= 0x40
	}
	return nil
}

// order lists the addresses. 0x70 is the last one; see probeAddress.
func order() (all []uint16) {
	for a := uint16(first); a <= last; a++ {
		if a != 0x70 {
			all = append(all, a)
		}
	}
	return append(all, 0x70)
}

// probeAddress probes one address. It returns nil if nothing answers, and an error if the
// bus fails.
//
// It begins with a read of one byte. A write of nothing, with which i2cdetect begins, changes
// some chips. A chip that acknowledges the read is asked for its registers, one number written
// and then read. Only a chip that does not is sent commands. At 0x70 a PCA9685 listens with all
// others of its kind, and would take a command for a level. So where there is a chip from 0x40
// that was not recognised, unknown, no command is sent to 0x70. At 0x58 and 0x59, where memories
// may be, commands are sent only if two reads were not acknowledged.
func probeAddress(bus i2c.Bus, root string, addr uint16, used []Use, unknown bool) (*Found, error) {
	f := &Found{Address: addr}
	for _, u := range used {
		if u.Bus == fmt.Sprint(bus) && u.Address == addr {
			f.Chip, f.Sensor = u.Chip, u.Sensor
			return f, nil
		}
	}
	if c, ok := bus.(board.Claimer); ok {
		var owned *board.OwnedError
		if err := c.Claim(addr); errors.As(err, &owned) {
			f.Driver = owned.Driver
			if f.Driver == "" {
				f.Driver = "unknown"
			}
			return f, nil
		}
	}
	p := &prober{bus: bus, addr: addr}
	err := bus.Tx(addr, nil, make([]byte, 1))
	silent := errors.Is(err, board.ErrAbsent)
	switch {
	case silent && (errors.Is(err, syscall.ENODEV)):
		return nil, err // the adapter was unplugged
	case silent && (addr == 0x58 || addr == 0x59):
		// Memories acknowledge reads, except while they write, for 10 ms at most.
		<-time.NewTimer(2 * 10 * time.Millisecond).C
		if err := bus.Tx(addr, nil, make([]byte, 1)); !errors.Is(err, board.ErrAbsent) {
			return nil, nil
		}
	case silent && (readOnly(addr) || addr == 0x70 && unknown):
		return nil, nil
	case errors.Is(err, syscall.ETIMEDOUT):
		return nil, err
	case err != nil && !silent:
		f.Note = "answers wrongly: " + err.Error()
		return f, nil
	}
	for _, i := range identities {
		c, _ := sensors.Lookup(i.chip)
		if i.commands != silent || !slices.Contains(c.Addresses, addr) {
			continue
		}
		if i.is(p) {
			f.Chip, f.Or = i.chip, canBeAt(i.or, addr)
			return f, nil
		}
		if p.err != nil {
			return nil, p.err
		}
	}
	if silent {
		return nil, nil
	}
	f.Or = mayBe(addr, false)
	return f, nil
}

// canBeAt returns those of the chips that can have an address.
func canBeAt(names []string, addr uint16) (some []string) {
	for _, n := range names {
		if c, _ := sensors.Lookup(n); slices.Contains(c.Addresses, addr) {
			some = append(some, n)
		}
	}
	return some
}

// prober talks to one chip. Its methods return nil if the chip does not answer.
type prober struct {
	bus  i2c.Bus
	addr uint16
	err  error  // a timeout of the bus
	ezo  []byte // the answer of an EZO circuit; nil: not asked yet
}

// read writes a register's number, or nothing, and reads n bytes. It does not write to a
// read-only address.
func (p *prober) read(n int, reg ...byte) []byte {
	if len(reg) > 0 && readOnly(p.addr) {
		return nil
	}
	b := make([]byte, n)
	return p.got(b, p.bus.Tx(p.addr, reg, b))
}

// command writes a command, waits and reads its answer of n bytes.
func (p *prober) command(n int, wait time.Duration, code ...byte) []byte {
	if err := p.bus.Tx(p.addr, code, nil); err != nil {
		return p.got(nil, err)
	}
	<-time.NewTimer(wait).C
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	return p.got(b, p.bus.Tx(p.addr, nil, b))
}

// words returns the n words of a command's answer without Sensirion's checksums, which it
// checks.
func (p *prober) words(n int, wait time.Duration, code ...byte) []byte {
	b := p.command(3*n, wait, code...)
	var words []byte
	for ; len(b) >= 3; b = b[3:] {
		if crc8(0x31, 0xFF, b[0], b[1]) != b[2] {
			return nil
		}
		words = append(words, b[0], b[1])
	}
	return words
}

func (p *prober) got(b []byte, err error) []byte {
	if errors.Is(err, syscall.ETIMEDOUT) {
		p.err = err
	}
	if err != nil {
		return nil
	}
	return b
}
