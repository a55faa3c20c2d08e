package sensors

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Lines with pulses: a meter's contact or S0 output, a rain gauge, an anemometer, a flow
// sensor, a fan.
//
// Sources: Linux, include/uapi/linux/gpio.h (struct gpio_v2_line_event: line_seqno,
// timestamp_ns) and drivers/gpio/gpiolib-cdev.c (linereq_put_event drops the oldest event
// and numbers all of them; edge_irq_thread reads the level when both edges are requested);
// EN 62053-31 for S0 outputs.
//
// The edges wait in the kernel until the sensor is read, so a pulse wakes up nobody, and a
// line that hums costs the daemon no more than a quiet one. The kernel drops edges when
// its queue is full, but numbers all of them. Edges alternate, so the number of pulses among
// those that were dropped is known. If they do not alternate, the kernel itself has missed
// a change, because the line changed twice before its interrupt was handled.

// PulseLine are the keys of a line with pulses. A pulse begins when the line becomes
// active.
type PulseLine struct {
	// Pin is the GPIO line.
	Pin string `yaml:"pin"`
	// Pull is the line's bias: up, down or none.
	Pull board.Pull `yaml:"pull"`
	// ActiveLow makes the low level the active one.
	ActiveLow bool `yaml:"active_low"`
	// Debounce is how long a level must be stable to count.
	Debounce time.Duration `yaml:"debounce"`
}

// Place returns the line.
func (o PulseLine) Place() Place { return Place{Pin: o.Pin} }

// pulseRules are the rules of the keys of a PulseLine.
func pulseRules() map[string]option.Rule {
	return map[string]option.Rule{
		"pin":      {Required: true, Wants: "a line such as GPIO17", Check: line},
		"debounce": {Check: option.Between(0, time.Minute, option.Duration)},
	}
}

// lookLine is the [Chip].Look of a chip on one line.
func lookLine(b board.Board, c Config) error {
	pin := c.Place().Pin
	if pin == "" {
		return errNoPin
	}
	id, err := b.Find(pin)
	if err != nil {
		return err
	}
	return board.Free(b, id)
}

// pulses is what was seen on a line since it was read before.
type pulses struct {
	count    uint64        // edges to the active level
	lost     uint64        // edges that the kernel's queue has dropped; they are counted
	missed   uint64        // times that the kernel itself has missed a change
	first    time.Duration // when the first counted edge came; only if nothing was lost
	latest   time.Duration // when the latest one came
	complete bool          // first is known
}

// pulseReader counts the pulses of a requested line.
type pulseReader struct {
	chip   string
	in     board.EdgeReader
	edges  []board.Edge
	known  bool // there was an edge, and its level was:
	active bool
	closed bool
}

// openPulses requests a line.
func openPulses(b board.Board, c Config, o PulseLine) (*pulseReader, error) {
	if o.Pin == "" {
		return nil, fmt.Errorf("open %s: %w", c.Chip, errNoPin)
	}
	if o.Debounce < 0 {
		return nil, fmt.Errorf("open %s: debounce: want 0 or more (got %v)", c.Chip, o.Debounce)
	}
	in, err := b.EdgeReader(board.InputConfig{Line: o.Pin, ActiveLow: o.ActiveLow, Pull: o.Pull, Debounce: o.Debounce})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Chip, err)
	}
	return &pulseReader{chip: c.Chip, in: in}, nil
}

// read returns what was seen since the last call. What was seen before an error is not
// lost: the kernel still has it, or the line is gone.
func (r *pulseReader) read() (p pulses, err error) {
	if r.closed {
		return pulses{}, fmt.Errorf("read %s: %w", r.chip, os.ErrClosed)
	}
	r.edges, err = r.in.Read(r.edges[:0])
	if err != nil && len(r.edges) == 0 {
		return pulses{}, fmt.Errorf("read %s: %w", r.chip, err)
	}
	p.complete = true
	for _, e := range r.edges {
		r.add(&p, e)
	}
	return p, nil
}

// add counts an edge and those that were dropped before it.
func (r *pulseReader) add(p *pulses, e board.Edge) {
	n := uint64(e.Lost) + 1 // edges, the last of which is e
	if r.known && (r.active != e.Active) != (n%2 == 1) {
		n++ // one that the kernel has missed: this is the least that makes them alternate
		p.missed++
	}
	r.known, r.active = true, e.Active
	p.lost += uint64(e.Lost)
	count := n / 2
	if e.Active {
		count = (n + 1) / 2
	}
	if count == 0 {
		return
	}
	if p.count == 0 {
		p.first = e.Mono
	}
	p.complete = p.complete && n == 1
	p.count += count
	p.latest = e.Mono
}

// level reads the level.
func (r *pulseReader) level() (bool, error) {
	if r.closed {
		return false, fmt.Errorf("read %s: %w", r.chip, os.ErrClosed)
	}
	active, err := r.in.Active()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", r.chip, err)
	}
	return active, nil
}

// close releases the line. A second call does nothing.
func (r *pulseReader) close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if err := r.in.Close(); err != nil {
		return fmt.Errorf("close %s: %w", r.chip, err)
	}
	return nil
}

// pulseRate finds the rate of pulses from the kernel's times.
type pulseRate struct {
	idle   time.Duration // without a pulse for so long the rate is 0
	opened time.Time
	begun  bool          // there was a pulse, and the latest
	latest time.Duration // came at this time by the kernel's clock,
	seen   time.Time     // and was seen at this one
	rate   float64       // pulses per second
	known  bool
}

// add takes what was seen now, and returns the pulses per second; known is false until
// there were two pulses, or none for long enough.
//
// The rate is the mean over the periods that have ended since the last call. While none
// ends, it is not more than one pulse in the time since the latest.
func (r *pulseRate) add(p pulses, now time.Time) (rate float64, known bool) {
	switch {
	case p.count > 0:
		from, n := r.latest, p.count
		if !r.begun {
			from, n = p.first, p.count-1
		}
		if over := (p.latest - from).Seconds(); (r.begun || p.complete) && n > 0 && over > 0 {
			r.rate, r.known = float64(n)/over, true
		}
		r.begun, r.latest, r.seen = true, p.latest, now
	case r.known && r.rate > 0:
		if long := now.Sub(r.seen); long >= r.idle {
			r.rate = 0
		} else if long > 0 {
			r.rate = min(r.rate, 1/long.Seconds())
		}
	}
	since := r.opened
	if r.begun {
		since = r.seen
	}
	if !r.known && now.Sub(since) >= r.idle {
		r.rate, r.known = 0, true
	}
	return r.rate, r.known
}

// significant rounds to six significant digits, which is more than the times allow.
func significant(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
	if err != nil {
		return x
	}
	return y
}

// frequency is a line whose pulses are counted by the second.

// Frequency are the keys of a line whose frequency is measured.
type Frequency struct {
	PulseLine
	// Idle is the time without a pulse after which the frequency is 0.
	Idle time.Duration `yaml:"idle"`
}

// mostHertz is the highest frequency that is believed. Each edge is an interrupt, and no
// board that fieldpost is for handles more than some ten thousand of them a second.
const mostHertz = 100_000

var frequencyQuantities = []Quantity{{Name: "frequency", Unit: "Hz", Min: 0, Max: mostHertz}}

var frequencyLine = Chip{
	Name:       "frequency",
	Title:      "a line of the board whose pulses a second are measured: a fan, a flow sensor",
	Source:     "Linux, include/uapi/linux/gpio.h",
	Options:    option.Set{Defaults: Frequency{Idle: 2 * time.Second}, Rules: frequencyRules()},
	Quantities: frequencyQuantities,
	Every:      10 * time.Second,
	Worst:      20 * time.Millisecond,
	WarmUp:     time.Minute,
	Look:       lookLine,
	Open: func(b board.Board, c Config) (Sensor, error) {
		o := optionsOf[Frequency](c)
		r, err := openPulses(b, c, o.PulseLine)
		if err != nil {
			return nil, err
		}
		return &frequencySensor{r: r, rate: pulseRate{idle: o.Idle, opened: time.Now()}}, nil
	},
}

func frequencyRules() map[string]option.Rule {
	rules := pulseRules()
	rules["idle"] = option.Rule{Check: option.Between(10*time.Millisecond, 30*time.Second, option.Duration)}
	return rules
}

// frequencySensor is an open line whose frequency is measured.
type frequencySensor struct {
	r    *pulseReader
	rate pulseRate
}

var _ LineKeeper = (*frequencySensor)(nil)

// Quantities returns the chip's.
func (s *frequencySensor) Quantities() []Quantity { return frequencyQuantities }

// Sense returns the mean frequency since the last reading.
func (s *frequencySensor) Sense() ([]Field, error) {
	p, err := s.r.read()
	if err != nil {
		return nil, err
	}
	hertz, known := s.rate.add(p, time.Now())
	switch {
	case p.missed > 0:
		return nil, faultf("it changes faster than this board can follow, or bounces: %d of its %d pulses were not seen whole", p.missed, p.count)
	case !known:
		return nil, fmt.Errorf("frequency %w: it needs two pulses, or none for %v", ErrNotReady, s.rate.idle)
	}
	return values(frequencyQuantities, significant(hertz))
}

// KeepsLine says that the line stays requested after an error.
func (s *frequencySensor) KeepsLine() {}

// Close releases the line.
func (s *frequencySensor) Close() error { return s.r.close() }

// amountOf parses a number or a fraction: 10, 0.2794, 1/800.
func amountOf(text string) (any, error) {
	above, below, fraction := strings.Cut(text, "/")
	x, err := strconv.ParseFloat(strings.TrimSpace(above), 64)
	if fraction && err == nil {
		var y float64
		y, err = strconv.ParseFloat(strings.TrimSpace(below), 64)
		x /= y
	}
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return nil, errors.New("want a number such as 10 or 0.2794, or a fraction such as 1/800")
	}
	return x, nil
}
