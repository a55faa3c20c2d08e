// Package sim is a board in memory, for tests, rehearsals and the demo.
//
// It simulates registers and levels, not readings: the same drivers that talk
// to a real chip talk to this one, over the same [i2c.Bus], and the same
// output code drives these lines. So what is proved here holds on a machine,
// as far as the chips keep to their datasheets.
//
// A test builds a board, gives it buses, chips and levels, and then breaks
// them: a chip that no longer answers, a bus that hangs, a frame of noise, a
// power cut that only the chip felt, a line that somebody else holds.
//
//	b := sim.New()
//	air := b.AddBus("i2c-1").AddBME280(0x76)
//	air.SetTemperature(21.5)
//	air.Fault(sim.NACK)                  // from now on it is not there
//	b.Line("GPIO17").Drive(true)         // the door's switch opens
//	b.Line("GPIO27").History()           // what the relay felt
//
// All times come from package time, so that testing/synctest moves them. All
// methods may be called from any goroutine.
package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"fieldpost/sensors/board"

	"periph.io/x/conn/v3/i2c"
)

// Label is the label of the simulated board's one GPIO chip.
const Label = "fieldpost-sim"

// chipName is the device name of that chip.
const chipName = "gpiochip0"

// lineCount is how many lines the board has: GPIO0 to GPIO27, as on a
// Raspberry Pi's header.
const lineCount = 28

// Board is a simulated board. New makes one.
type Board struct {
	mu    sync.Mutex // guards everything below, lines and inputs included
	buses map[string]*Bus
	ports map[string]*Bus // SPI and serial devices, each with one chip, at address 0
	lines []*Line
	mono  func() time.Duration
	root  string
	keep  bool

	beforeSet func(line string, active bool) // see BeforeSet; nil is nothing
}

var (
	_ board.Board  = (*Board)(nil)
	_ board.Holder = (*Board)(nil)
)

// New makes a board with the lines GPIO0 to GPIO27, all pulled down, and no
// buses.
func New() *Board {
	start := time.Now()
	b := &Board{
		buses: map[string]*Bus{},
		ports: map[string]*Bus{},
		mono:  func() time.Duration { return time.Since(start) },
		root:  filepath.Join(os.TempDir(), Label+"-has-no-root"),
	}
	for i := range lineCount {
		id := board.LineID{Label: Label, Chip: chipName, Offset: i, Name: fmt.Sprintf("GPIO%d", i)}
		b.lines = append(b.lines, &Line{b: b, id: id, pull: board.PullDown})
	}
	return b
}

// AddBus adds an empty I2C bus to the board, or returns the bus that has this name already.
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

// Unplug takes an adapter away, with all that is on its bus: handles on it are
// dead from then on, and it cannot be opened.
func (b *Board) Unplug(bus *Bus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bus.mu.Lock()
	defer bus.mu.Unlock()
	delete(b.buses, bus.name)
	bus.plugs++
}

// Plug puts an adapter back that was unplugged, as the bus of that name, which may
// be another one than before. The chips on it have just got their power.
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

// Root is the directory set by SetRoot; until then one that does not exist.
func (b *Board) Root() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.root
}

// SetRoot makes dir the directory under which the board's /sys and /proc are.
func (b *Board) SetRoot(dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.root = dir
}

// SetMono makes now the source of the edges' time stamps. A program that
// compares them with the machine's own CLOCK_MONOTONIC sets it; otherwise
// they count from New.
func (b *Board) SetMono(now func() time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mono = now
}

// KeepOnRelease chooses what a released output does: keep its level, as
// Raspberry Pi's kernels have it (pinctrl-bcm2835, persist_gpio_outputs), or,
// as before the first call, go back to its pull, as others do.
func (b *Board) KeepOnRelease(keep bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep = keep
}

// WriteThermal sets thermal zone n under the root: its type ("cpu-thermal")
// and its temperature. SetRoot comes first.
func (b *Board) WriteThermal(n int, kind string, celsius float64) error {
	dir := filepath.Join(b.Root(), "sys/class/thermal", fmt.Sprintf("thermal_zone%d", n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make thermal zone: %w", err)
	}
	for name, text := range map[string]string{
		"type": kind + "\n",
		"temp": fmt.Sprintf("%.0f\n", celsius*1000),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write thermal zone: %w", err)
		}
	}
	return nil
}

// Crash does to the lines what the kernel does when the process that holds
// them is killed: all are released, none is asked first. What Input and Output
// gave is closed; nobody is told.
func (b *Board) Crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
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
