// Package sim simulates a board in memory, for tests and the demo.
//
// It simulates registers and levels, not readings. The drivers for real chips talk to the
// simulated ones through the same [i2c.Bus], and the same output code drives these lines.
// So what works here works on a machine, if the real chips follow their datasheets.
//
// A test makes a board, adds buses, chips and levels, and then breaks them: a chip that
// no longer answers, a bus that hangs, a frame of noise, a chip that lost its power, a
// line that somebody else holds.
//
//	b := sim.New()
//	air := b.AddBus("i2c-1").AddBME280(0x76)
//	air.SetTemperature(21.5)
//	air.Fault(sim.NACK)                  // from now on it does not answer
//	b.Line("GPIO17").Drive(true)         // the door's switch opens
//	b.Line("GPIO27").History()           // all levels that the relay got
//
// All times come from package time, so that it works with testing/synctest. All methods
// may be called from any goroutine.
package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldpost/sensors/board"

	"periph.io/x/conn/v3/i2c"
)

// Label is the label of the simulated board's own GPIO chip.
const Label = "fieldpost-sim"

// chipName is the device name of that chip.
const chipName = "gpiochip0"

// lineCount is how many lines the board has: GPIO0 to GPIO27, as on a
// Raspberry Pi's header.
const lineCount = 28

// Board is a simulated board. New makes one.
type Board struct {
	kernelFiles
	ports

	mu    sync.Mutex // guards everything below, lines and inputs included
	buses map[string]*Bus
	lines []*Line
	added map[string]*Line // further names of lines; see AddLine
	mono  func() time.Duration
	keep  bool

	expanders []*Expander
	channels  []*PWMChannel
	pwms      []pwmChip
	beforeSet func(line string, active bool) // see BeforeSet; nil is nothing
}

var (
	_ board.Board    = (*Board)(nil)
	_ board.Holder   = (*Board)(nil)
	_ board.Expander = (*Board)(nil)
)

// New makes a board with the lines GPIO0 to GPIO27, all pulled down, and no
// buses.
func New() *Board {
	start := time.Now()
	b := &Board{
		buses:       map[string]*Bus{},
		added:       map[string]*Line{},
		pwms:        []pwmChip{{PWMLabel, "pwmchip0", 2}},
		ports:       ports{byName: map[string]*Bus{}},
		mono:        func() time.Duration { return time.Since(start) },
		kernelFiles: kernelFiles{root: filepath.Join(os.TempDir(), Label+"-has-no-root")},
	}
	for i := range lineCount {
		id := board.LineID{Label: Label, Chip: chipName, Offset: i, Name: fmt.Sprintf("GPIO%d", i)}
		b.lines = append(b.lines, &Line{b: b, id: id, pull: board.PullDown})
	}
	return b
}

// AddBus adds an empty I2C bus to the board, or returns the existing bus of this name.
func (b *Board) AddBus(name string) *Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	name = busName(name)
	if bus := b.buses[name]; bus != nil {
		return bus
	}
	bus := &Bus{name: name, chips: map[uint16]*Chip{}}
	b.buses[name] = bus
	return bus
}

// busName makes i2c-1 of 1 and /dev/i2c-1.
func busName(name string) string {
	return "i2c-" + strings.TrimPrefix(strings.TrimPrefix(name, "/dev/"), "i2c-")
}

// Bus opens the bus of that name: i2c-1, 1 or /dev/i2c-1, or its adapter's name
// or part of it, as on a machine.
func (b *Board) Bus(name string) (i2c.BusCloser, error) {
	b.mu.Lock()
	bus := b.buses[busName(name)]
	for _, other := range b.buses {
		if bus == nil && name != "" && other.called(name) {
			bus = other
		}
	}
	b.mu.Unlock()
	if bus == nil {
		return nil, fmt.Errorf("open bus %q: %w", name, board.ErrAbsent)
	}
	return bus.open(), nil
}

// Unplug removes an adapter with everything on its bus. Open handles stop working, and
// the bus cannot be opened.
func (b *Board) Unplug(bus *Bus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bus.mu.Lock()
	defer bus.mu.Unlock()
	delete(b.buses, bus.name)
	bus.plugs++
}

// Plug plugs an adapter in again, as the bus of that name, which may differ from the last
// one. Its chips have just been powered on.
func (b *Board) Plug(bus *Bus, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bus.mu.Lock()
	defer bus.mu.Unlock()
	bus.name = busName(name)
	b.buses[bus.name] = bus
	for _, c := range bus.chips {
		c.dev.reset(time.Now())
	}
}

// SetMono makes now the source of the edges' time stamps. A program sets it to compare
// them with the machine's CLOCK_MONOTONIC. Otherwise they count from New.
func (b *Board) SetMono(now func() time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mono = now
}

// KeepOnRelease sets what a released output does: keep its level, as with Raspberry Pi
// kernels (pinctrl-bcm2835, persist_gpio_outputs), or go back to its pull, as with
// others. The default is to go back.
func (b *Board) KeepOnRelease(keep bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep = keep
}

// Crash does what the kernel does when the process that holds the lines is killed: it
// releases all of them. The inputs and outputs are closed without notice.
func (b *Board) Crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.lines
	for _, e := range b.expanders {
		all = slices.Concat(all, e.lines)
	}
	for _, l := range all {
		if l.out != nil {
			l.out.release()
		}
		if l.in != nil {
			l.in.release()
		}
	}
}

// String names the board for people.
func (b *Board) String() string { return "simulated board" }
