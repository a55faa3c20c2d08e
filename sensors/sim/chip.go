package sim

import (
	"math/rand/v2"
	"syscall"
	"time"
)

// Fault is one way in which a chip can be broken.
type Fault int

// The faults of a chip.
const (
	Healthy Fault = iota // works as in the datasheet
	NACK                 // does not answer: unplugged, unpowered, dead
	Timeout              // ETIMEDOUT: the bus hangs whenever the chip is addressed
	EIO                  // EIO: it answers and then stops, or stretches the clock
	Stuck                // the transaction does not return until the fault is changed
	Ones                 // every byte read is 0xFF, as if SDA was disconnected after the acknowledge
	Zeros                // every byte read is 0x00
	Noise                // every byte read is random, from a fixed seed
)

// device is a chip's registers. Its methods are called under the bus's lock.
type device interface {
	reset(now time.Time)           // the chip is powered on
	write(now time.Time, p []byte) // what the controller wrote, at least one byte
	read(now time.Time, p []byte)  // fills p from the current register on
}

// refuser is a device that does not acknowledge some transactions, in which w is written
// and r bytes are read.
type refuser interface {
	refuses(now time.Time, w []byte, r int) bool
}

// Chip is what all chips on a simulated bus have in common.
type Chip struct {
	bus     *Bus
	dev     device
	fault   Fault
	left    int           // how many more transactions the fault lasts; negative: for ever
	release chan struct{} // closed when the present fault ends
	noise   *rand.Rand
	before  func() // called before each transaction, if set
}

func newChip(b *Bus, addr uint16, d device) *Chip {
	return &Chip{bus: b, dev: d, noise: rand.New(rand.NewPCG(1, uint64(addr)))}
}

// Fault breaks the chip in that way until the next call; Healthy repairs it.
func (c *Chip) Fault(f Fault) { c.FaultNext(-1, f) }

// FaultNext breaks the chip in that way for its next n transactions.
func (c *Chip) FaultNext(n int, f Fault) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.set(n, f)
}

// OnTransaction sets a function to call before each transaction that reaches the chip. It
// is called under the bus's lock, so it must not call methods of the bus or the chip.
func (c *Chip) OnTransaction(fn func()) { c.update(func() { c.before = fn }) }

// PowerCycle switches the chip off and on. It loses its settings and measurements.
func (c *Chip) PowerCycle() {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.dev.reset(time.Now())
}

// Exchange replaces the chip by another of the same kind, which was just powered on and
// has its own calibration if the kind has one.
func (c *Chip) Exchange() {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	if d, ok := c.dev.(interface{ exchange() }); ok {
		d.exchange()
	}
	c.dev.reset(time.Now())
}

// Freeze makes the chip's status never change: a measurement does not end, a value never becomes
// ready. It reports whether the chip has such a status, and does nothing otherwise.
func (c *Chip) Freeze(on bool) (has bool) {
	switch d := c.dev.(type) {
	case interface{ FreezeConversion(on bool) }:
		d.FreezeConversion(on)
	case interface{ FreezeStatus(on bool) }:
		d.FreezeStatus(on)
	default:
		return false
	}
	return true
}

// set changes the fault and releases the transactions that the old one blocked.
func (c *Chip) set(n int, f Fault) {
	if c.release != nil {
		close(c.release)
		c.release = nil
	}
	c.fault, c.left = f, n
	if f == Healthy || n == 0 {
		c.fault, c.left = Healthy, 0
	}
	if c.fault == Stuck {
		c.release = make(chan struct{})
	}
}

// transact makes one transaction under the bus's lock. If the chip is stuck, it returns a
// channel to wait for outside the lock, and the error to return after that.
func (c *Chip) transact(w, r []byte) (<-chan struct{}, error) {
	if c.before != nil {
		c.before()
	}
	f, release := c.fault, c.release
	if f != Healthy && c.left > 0 {
		if c.left--; c.left == 0 && f != Stuck {
			c.fault = Healthy
		}
	}
	switch f {
	case NACK:
		return nil, errNACK
	case Timeout:
		return nil, syscall.ETIMEDOUT
	case EIO:
		return nil, syscall.EIO
	case Stuck:
		return release, syscall.ETIMEDOUT
	case Ones, Zeros, Noise:
		c.garble(f, r)
		return nil, nil
	}
	now := time.Now()
	if d, ok := c.dev.(refuser); ok && d.refuses(now, w, len(r)) {
		return nil, errNACK
	}
	if len(w) > 0 {
		c.dev.write(now, w)
	}
	if len(r) > 0 {
		c.dev.read(now, r)
	}
	return nil, nil
}

func (c *Chip) garble(f Fault, r []byte) {
	for i := range r {
		switch f {
		case Ones:
			r[i] = 0xFF
		case Zeros:
			r[i] = 0
		case Noise:
			r[i] = byte(c.noise.Uint32())
		}
	}
}

// update calls fn under the bus's lock. The chips' setters use it.
func (c *Chip) update(fn func()) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	fn()
}
