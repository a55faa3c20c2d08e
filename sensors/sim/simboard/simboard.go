// Package simboard simulates the board that a configuration describes: each of its sensors as a
// chip at its place, each of its outputs as a line or PWM channel. The drivers of the real chips
// run on it. It is for `fieldpost run --simulate` and `fieldpost rehearse`.
//
//	b := simboard.New(dir)
//	missing := b.Add(cfg.Sensors, outputs)
//	go b.Run(ctx) // the values move
//	b.Parts()[0].Cut(true)
package simboard

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// Board is the simulated board of a configuration. [New] makes one. Its methods may be called
// from any goroutine.
type Board struct {
	*sim.Board

	mu     sync.Mutex
	parts  []*Part
	seen   map[string]bool            // what Add has had
	modbus map[string]*sim.ModbusLine // by their ports
	files  map[string]int             // devices of each class of the kernel
	buses  map[string]*sim.Bus        // by the name in the configuration
	dirs   map[string]string          // of devices that have a kernel driver
	expand map[string]bool            // chips of lines that were looked at
}

// Part is a simulated sensor.
type Part struct {
	Sensor string // its name in the configuration
	Chip   string // its chip's name in the catalog
	Bus    string // of an I2C chip, as the configuration names it; "" otherwise
	// Device says what it shares with other sensors: parts of the same device come and go
	// together.
	Device string

	// Chatters is the line of an input, which may be made to chatter; nil of other parts.
	Chatters *sim.Line

	cut   func(away bool)
	move  func(at time.Duration, wave float64) // nil: its value stays
	still atomic.Bool
}

// Still keeps the part's value as it is, or lets it move again. Any goroutine.
func (p *Part) Still(still bool) { p.still.Store(still) }

// Cut disconnects the part, as a cut wire does, or connects it again. Any goroutine.
func (p *Part) Cut(away bool) { p.cut(away) }

// Missing is something that the configuration has and the simulated board does not.
type Missing struct {
	Name string // of the sensor or output
	What string // the chip or line
	Why  string
}

// String says what is missing, for people.
func (m Missing) String() string { return fmt.Sprintf("%s (%s): %s", m.Name, m.What, m.Why) }

// Output is what the board needs to know of an output: its line and how that is driven, or its
// PWM channel.
type Output struct {
	Name, Pin, PWM string
	Drive          board.Drive
}

// New makes an empty board. dir is a directory of its own, for the files that a kernel shows
// in /sys.
func New(dir string) *Board {
	b := &Board{
		Board: sim.New(), seen: map[string]bool{}, modbus: map[string]*sim.ModbusLine{},
		files: map[string]int{}, buses: map[string]*sim.Bus{}, expand: map[string]bool{}, dirs: map[string]string{},
	}
	b.SetRoot(dir)
	return b
}

// Add adds the sensors and outputs of a configuration that are not there yet, and returns those
// that cannot be simulated.
func (b *Board) Add(list []sensors.Config, outputs []Output) (missing []Missing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range outputs {
		if why := b.addOutput(o); why != "" {
			missing = append(missing, Missing{o.Name, o.Pin + o.PWM, why})
		}
	}
	for _, c := range list {
		key := fmt.Sprintf("%s %s %+v", c.Name, c.Chip, c.Options)
		if b.seen[key] {
			continue
		}
		part := &Part{Sensor: c.Name, Chip: c.Chip, Device: "sensor " + c.Name}
		if why := b.place(part, c); why != "" {
			missing = append(missing, Missing{c.Name, c.Chip, why})
			continue
		}
		b.seen[key] = true
		b.parts = append(b.parts, part)
	}
	return missing
}

// pulls are the resistors that outputs need which drive only one of their two levels.
var pulls = map[board.Drive]board.Pull{board.OpenDrain: board.PullUp, board.OpenSource: board.PullDown}

func (b *Board) addOutput(o Output) (why string) {
	var err error
	if o.PWM != "" {
		err = sim.AddPWM(b.Board, o.PWM)
	} else {
		err = b.line(o.Pin)
		if pull, ok := pulls[o.Drive]; err == nil && ok {
			b.Line(o.Pin).SetPull(pull)
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// Parts returns the simulated sensors, in the configuration's order.
func (b *Board) Parts() []*Part {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.parts)
}

// I2C returns the I2C bus that the configuration calls so; nil if it has none.
func (b *Board) I2C(name string) *sim.Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buses[name]
}

// The movements of the values.
const (
	step = 250 * time.Millisecond
	day  = 5 * time.Minute // a simulated day
)

// Run moves the values until ctx ends: a day takes five minutes, doors open for three of eight
// seconds, and counters get two pulses a second. It returns nil.
func (b *Board) Run(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		b.Move(time.Since(start))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Move sets all values to those at a time since the start.
func (b *Board) Move(at time.Duration) {
	for i, p := range b.Parts() {
		if p.move != nil && !p.still.Load() {
			p.move(at, math.Sin(2*math.Pi*(at.Seconds()/day.Seconds()+float64(i)/7)))
		}
	}
}
