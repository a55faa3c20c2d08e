//go:build hardware

package board

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/i2c/i2creg"
)

// These tests need a gpio-sim chip and the simulated I2C adapter of the test machine.
// deploy/vm/guest/bench-hw.sh creates both.
//
//	FIELDPOST_TEST_GPIO  the chip's label; its lines are named GPIO0, GPIO1 ...
//	LINES                the chip's sysfs directory: $LINES/sim_gpio17/pull, /value
//	FIELDPOST_TEST_I2C   the bus, with a BME280 at 0x76 and a TMP102 at 0x48
//	REGS                 the adapter's sysfs directory: $REGS/fault

// setting returns a variable of the environment that the tests need.
func setting(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set; see the head of this file", name)
	}
	return v
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// pull sets the level of a simulated line from outside.
func pull(t *testing.T, line int, high bool) {
	t.Helper()
	text := "pull-down"
	if high {
		text = "pull-up"
	}
	write(t, filepath.Join(setting(t, "LINES"), fmt.Sprintf("sim_gpio%d", line), "pull"), text)
}

// wire reads the level of a simulated line from outside.
func wire(t *testing.T, line int) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(setting(t, "LINES"), fmt.Sprintf("sim_gpio%d", line), "value"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b)) == "1"
}

func machine(t *testing.T) *Machine {
	t.Helper()
	m, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Notes() {
		t.Errorf("note: %s", n)
	}
	return m
}

// next waits for an edge. Its limit only prevents a broken test from hanging.
func next(t *testing.T, in Input) Edge {
	t.Helper()
	select {
	case e := <-in.Edges():
		return e
	case <-time.After(30 * time.Second):
		t.Fatal("no edge came")
	}
	return Edge{}
}

func monotonic(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func TestHardwareFind(t *testing.T) {
	m, label := machine(t), setting(t, "FIELDPOST_TEST_GPIO")
	want, err := m.Find(label + ":17")
	if err != nil {
		t.Fatal(err)
	}
	if want.Label != label || want.Offset != 17 || want.Name != "GPIO17" || !strings.HasPrefix(want.Chip, "gpiochip") {
		t.Errorf("%+v", want)
	}
	for _, name := range []string{"GPIO17", want.Chip + ":17"} {
		if got, err := m.Find(name); err != nil || got != want {
			t.Errorf("Find(%q) = %+v, %v", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"17": "write chip:offset", "P1_11": "write chip:offset", label + ":999": "has the offsets 0 to",
		"NO_SUCH_LINE": "no line has this name", "gpiochip99:0": "no chip of this name",
	} {
		if _, err := m.Find(name); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), text) {
			t.Errorf("Find(%q): %v, want %q", name, err, text)
		}
	}
}

func TestHardwareInput(t *testing.T) {
	m := machine(t)
	pull(t, 5, false)
	in, err := m.Input(InputConfig{Line: "GPIO5", ActiveLow: true})
	if err != nil {
		t.Fatal(err)
	}
	if active, err := in.Active(); err != nil || !active {
		t.Errorf("Active() = %v, %v on a low wire", active, err)
	}
	for _, high := range []bool{true, false, true, false} {
		before := monotonic(t)
		pull(t, 5, high)
		e := next(t, in)
		if e.Active == high || e.Lost != 0 || e.Mono < before || e.Mono > monotonic(t) {
			t.Errorf("wire high %v: edge %+v between %v and %v", high, e, before, monotonic(t))
		}
		if active, err := in.Active(); err != nil || active == high {
			t.Errorf("wire high %v: Active() = %v, %v", high, active, err)
		}
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, open := <-in.Edges(); open {
		t.Error("Edges is open after Close")
	}
	again, err := m.Input(InputConfig{Line: "GPIO5", Pull: PullUp})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// Without a receiver, every edge that the kernel numbered is received later or counted as
// lost. gpio-sim merges changes that are close together, so only the kernel's number is
// exact.
func TestHardwareEdgesCount(t *testing.T) {
	m := machine(t)
	pull(t, 6, false)
	in, err := m.Input(InputConfig{Line: "GPIO6"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for i := range 2000 {
		pull(t, 6, i%2 == 0)
	}
	last := monotonic(t)
	pull(t, 6, true)
	var seen, lost uint32
	for {
		e := next(t, in)
		seen++
		lost += e.Lost
		if e.Active && e.Mono >= last {
			break
		}
	}
	// A change may still be pending when the last one is read.
	if numbered := in.(*inputLine).queue.decoder.last; seen+lost != numbered && seen+lost+1 != numbered {
		t.Errorf("%d seen and %d counted, the kernel numbered %d", seen, lost, numbered)
	}
	if lost == 0 {
		t.Errorf("%d seen, none lost: the test did not lag", seen)
	}
}

// Edges that nobody reads wait in the kernel, which keeps the latest and numbers all.
func TestHardwareEdgeReader(t *testing.T) {
	m := machine(t)
	pull(t, 8, false)
	in, err := m.EdgeReader(InputConfig{Line: "GPIO8"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if edges, err := in.Read(nil); err != nil || len(edges) != 0 {
		t.Errorf("a still line: %v, %v", edges, err)
	}
	for i := range 2000 {
		pull(t, 8, i%2 == 0)
	}
	edges, err := in.Read(nil)
	if err != nil || len(edges) != EdgesKept {
		t.Fatalf("%d edges, %v", len(edges), err)
	}
	var sum, lost uint32
	for i, e := range edges {
		sum, lost = sum+1+e.Lost, lost+e.Lost
		if i > 0 && (e.Lost > 0 || e.Mono < edges[i-1].Mono) {
			t.Errorf("edge %d is %+v after %+v", i, e, edges[i-1])
		}
	}
	if numbered := in.(*edgeReader).decoder.last; sum != numbered || lost == 0 {
		t.Errorf("%d edges, %d of them lost; the kernel numbered %d", sum, lost, numbered)
	}
}

// The kernel debounces: a short change is not an edge.
func TestHardwareDebounce(t *testing.T) {
	m := machine(t)
	pull(t, 7, false)
	in, err := m.Input(InputConfig{Line: "GPIO7", Debounce: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, high := range []bool{true, false, true, false, true} {
		pull(t, 7, high)
	}
	if e := next(t, in); !e.Active || e.Lost != 0 {
		t.Errorf("first edge %+v", e)
	}
	pull(t, 7, false)
	if e := next(t, in); e.Active || e.Lost != 0 {
		t.Errorf("second edge %+v", e)
	}
}

func TestHardwareOutput(t *testing.T) {
	m := machine(t)
	for _, c := range []OutputConfig{
		{Line: "GPIO8"}, {Line: "GPIO8", Active: true}, {Line: "GPIO8", ActiveLow: true}, {Line: "GPIO8", ActiveLow: true, Active: true},
	} {
		out, err := m.Output(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, active := range []bool{c.Active, true, false, true} {
			if err := out.Set(active); err != nil {
				t.Error(err)
			}
			if got, err := out.Active(); err != nil || got != active {
				t.Errorf("%+v: Active() = %v, %v, want %v", c, got, err, active)
			}
			if wire(t, 8) != (active != c.ActiveLow) {
				t.Errorf("%+v: active %v, wire high %v", c, active, wire(t, 8))
			}
		}
		var busy *BusyError
		if _, err := m.Output(OutputConfig{Line: "GPIO8"}); !errors.As(err, &busy) || busy.Holder != "fieldpost" || busy.Line.Name != "GPIO8" {
			t.Errorf("a second request: %v", err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The line has its level after the request, before any Set.
func TestHardwareInitialLevel(t *testing.T) {
	m := machine(t)
	for _, active := range []bool{true, false} {
		pull(t, 9, !active)
		out, err := m.Output(OutputConfig{Line: "GPIO9", Active: active})
		if err != nil {
			t.Fatal(err)
		}
		if wire(t, 9) != active {
			t.Errorf("wire high %v, want %v", wire(t, 9), active)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHardwareOpenDrain(t *testing.T) {
	m := machine(t)
	pull(t, 10, true)
	out, err := m.Output(OutputConfig{Line: "GPIO10", Drive: OpenDrain})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if wire(t, 10) {
		t.Error("an inactive open drain does not pull down")
	}
	if err := out.Set(true); err != nil {
		t.Fatal(err)
	}
	// gpio-sim applies a pull when it is set, and only to a line that is not driven.
	for _, high := range []bool{false, true} {
		pull(t, 10, high)
		if wire(t, 10) != high {
			t.Errorf("an active open drain holds the wire high %v against a pull to high %v", wire(t, 10), high)
		}
	}
}

// A handle works after its Machine is gone.
func TestHardwareHold(t *testing.T) {
	label := setting(t, "FIELDPOST_TEST_GPIO")
	f, err := Hold(OutputConfig{Line: label + ":11", ActiveLow: true})
	if err != nil {
		t.Fatal(err)
	}
	if !wire(t, 11) {
		t.Error("an active-low line held inactive is low")
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	inherited := os.NewFile(uintptr(fd), "safe-pump")
	var busy *BusyError
	if _, err := Hold(OutputConfig{Line: label + ":11"}); !errors.As(err, &busy) || busy.Holder != "fieldpost" {
		t.Errorf("held twice: %v", err)
	}
	for _, active := range []bool{true, false} {
		if err := Adopt(inherited, active); err != nil || wire(t, 11) == active {
			t.Errorf("Adopt(%v): %v, wire high %v", active, err, wire(t, 11))
		}
	}
	if err := inherited.Close(); err != nil {
		t.Error(err)
	}
	free, err := Hold(OutputConfig{Line: label + ":11"})
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Error(err)
	}
}

// Pins of periph's registry are our lines.
func TestHardwarePin(t *testing.T) {
	machine(t)
	p := gpioreg.ByName("GPIO12")
	if p == nil {
		t.Fatal("periph does not know GPIO12")
	}
	pull(t, 12, false)
	if err := p.In(gpio.PullNoChange, gpio.RisingEdge); err != nil {
		t.Fatal(err)
	}
	pull(t, 12, true)
	if !p.WaitForEdge(30*time.Second) || p.Read() != gpio.High {
		t.Error("no rising edge")
	}
	if err := p.Out(gpio.High); err != nil || !wire(t, 12) || p.Read() != gpio.High {
		t.Errorf("Out: %v, wire high %v", err, wire(t, 12))
	}
	if err := p.Halt(); err != nil {
		t.Error(err)
	}
}

func hardwareBus(t *testing.T) *i2cBus {
	t.Helper()
	b, err := openI2C("/dev", "/", setting(t, "FIELDPOST_TEST_I2C"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestHardwareI2C(t *testing.T) {
	wide, narrow := hardwareBus(t), hardwareBus(t)
	narrow.funcs &^= funcI2C // the kernel turns SMBus calls into messages
	for name, b := range map[string]*i2cBus{"I2C": wide, "SMBus": narrow} {
		id := make([]byte, 1)
		if err := b.Tx(0x76, []byte{0xd0}, id); err != nil || id[0] != 0x60 {
			t.Errorf("%s: identity %x, %v", name, id, err)
		}
		block := make([]byte, 26)
		if err := b.Tx(0x76, []byte{0x88}, block); err != nil || block[0] != 0x70 || block[25] != 0x4b {
			t.Errorf("%s: calibration % x, %v", name, block, err)
		}
		if err := b.Tx(0x76, []byte{0x50, 0xa5}, nil); err != nil {
			t.Errorf("%s: write a register: %v", name, err)
		}
		if err := b.Tx(0x76, []byte{0x50}, id); err != nil || id[0] != 0xa5 {
			t.Errorf("%s: read it back %x, %v", name, id, err)
		}
		if err := b.Tx(0x76, []byte{0x50, 0x00}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.Tx(0x76, []byte{0xd0}, nil); err != nil {
			t.Errorf("%s: select a register: %v", name, err)
		}
		if err := b.Tx(0x76, nil, id); err != nil || id[0] != 0x60 {
			t.Errorf("%s: read on: %x, %v", name, id, err)
		}
		word := make([]byte, 2)
		if err := b.Tx(0x76, []byte{0x88}, word); err != nil || !bytes.Equal(word, block[:2]) {
			t.Errorf("%s: word % x, %v", name, word, err)
		}
		if err := b.Tx(0x50, []byte{0}, id); !errors.Is(err, ErrAbsent) || !errors.Is(err, unix.ENXIO) {
			t.Errorf("%s: nobody at 0x50: %v", name, err)
		}
	}
}

func TestHardwareI2CFaults(t *testing.T) {
	b, fault := hardwareBus(t), filepath.Join(setting(t, "REGS"), "fault")
	t.Cleanup(func() { write(t, fault, "none") })
	for name, errno := range map[string]unix.Errno{"nak": unix.ENXIO, "timeout": unix.ETIMEDOUT, "eio": unix.EIO} {
		write(t, fault, name)
		err := b.Tx(0x76, []byte{0xd0}, make([]byte, 1))
		if !errors.Is(err, errno) || errors.Is(err, ErrAbsent) != (name == "nak") {
			t.Errorf("%s: %v, want %v", name, err, errno)
		}
	}
	write(t, fault, "none")
	if err := b.Tx(0x76, []byte{0xd0}, make([]byte, 1)); err != nil {
		t.Errorf("after the faults: %v", err)
	}
}

// An address that a kernel driver owns. Every kernel has the driver dummy.
func TestHardwareI2COwned(t *testing.T) {
	b := hardwareBus(t)
	adapter := filepath.Join("/sys/bus/i2c/devices", b.String())
	write(t, filepath.Join(adapter, "new_device"), "dummy 0x48")
	var owned *OwnedError
	for verb, err := range map[string]error{"read": b.Tx(0x48, []byte{1}, make([]byte, 2)), "claim": b.Claim(0x48)} {
		if !errors.As(err, &owned) || owned.Driver != "dummy" || !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v, want the driver dummy", verb, err)
		}
	}
	if err := b.Tx(0x76, []byte{0xd0}, make([]byte, 1)); err != nil {
		t.Errorf("its neighbour: %v", err)
	}
	write(t, filepath.Join(adapter, "delete_device"), "0x48")
	if err := b.Tx(0x48, []byte{1}, make([]byte, 2)); err != nil {
		t.Errorf("once it is free: %v", err)
	}
}

// Eight goroutines, each with its own bus from periph's registry, use one adapter, and
// each gets its own answers.
func TestHardwareI2CManyCallers(t *testing.T) {
	machine(t)
	shared := hardwareBus(t)
	var all sync.WaitGroup
	for n := range 8 {
		own, err := i2creg.Open(shared.String())
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer own.Close()
			for range 500 {
				got := make([]byte, 1)
				bus := i2cTxer(own)
				if n%2 == 0 {
					bus = shared
				}
				growStack(n)
				if err := bus.Tx(0x76, []byte{0xd0}, got); err != nil || got[0] != 0x60 {
					t.Errorf("identity %x, %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()
}

type i2cTxer interface {
	Tx(addr uint16, w, r []byte) error
}

func TestHardwareAbsentBus(t *testing.T) {
	if _, err := machine(t).Bus("i2c-199"); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), setting(t, "FIELDPOST_TEST_I2C")) {
		t.Errorf("%v, want absent and the buses there are", err)
	}
}
