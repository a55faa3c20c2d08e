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
	Healthy Fault = iota // as the datasheet has it
	NACK                 // nobody answers: unplugged, unpowered, dead
	Timeout              // ETIMEDOUT: the bus hangs whenever the chip is addressed
	EIO                  // EIO: it answers and then lets go, or stretches the clock
	Stuck                // the transaction does not return until the fault is changed
	Ones                 // every byte read is 0xFF: SDA has come off after the chip's acknowledge
	Zeros                // every byte read is 0x00
	Noise                // every byte read is random, from a fixed seed
)

// device is a chip's registers. Its methods are called under the bus's lock.
type device interface {
	reset(now time.Time)           // power comes on
	write(now time.Time, p []byte) // what the controller wrote, at least one byte
	read(now time.Time, p []byte)  // fill p from where the pointer is
}

// refuser is a device that does not acknowledge whatever it is asked: r bytes are to
// be read after w was written.
type refuser interface {
	refuses(now time.Time, w []byte, r int) bool
}

// Chip is a chip on a simulated bus: what all of them have in common.
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

// Fault breaks the chip in that way, until the next call; Healthy mends it.
func (c *Chip) Fault(f Fault) { c.FaultNext(-1, f) }

// FaultNext breaks the chip in that way for its next n transactions.
func (c *Chip) FaultNext(n int, f Fault) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.set(n, f)
}

// OnTransaction has fn called before each transaction that reaches the chip,
// under the bus's lock, so that it may call nothing of the bus or the chip.
func (c *Chip) OnTransaction(fn func()) { c.update(func() { c.before = fn }) }

// PowerCycle takes the chip's power away and gives it back: it has forgotten
// its settings and what it measured.
func (c *Chip) PowerCycle() {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.dev.reset(time.Now())
}

// Exchange puts another chip of the same kind in this one's place: one that has
// just got its power, and where the kind has a calibration, one of its own.
func (c *Chip) Exchange() {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	if d, ok := c.dev.(interface{ exchange() }); ok {
		d.exchange()
	}
	c.dev.reset(time.Now())
}

// set changes the fault and frees what was stuck on the old one.
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

// transact is one transaction under the bus's lock. When the chip is stuck it
// returns the channel to wait on, outside the lock, and the error to end with.
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

// update runs fn under the bus's lock, for the chips' setters.
func (c *Chip) update(fn func()) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	fn()
}
