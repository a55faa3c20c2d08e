package board

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"
)

// periph's registries are global, so each test uses its own names.
func registered(t *testing.T, chips map[string]*fakeChip) (*Machine, *fakeGPIO) {
	t.Helper()
	m, k := newFakeMachine(t, chips)
	m.notes = m.register()
	return m, k
}

// theirPin is a pin that periph registered before us.
type theirPin struct{ gpio.PinIO }

func (theirPin) Name() string { return "TEST_OURS" }

func TestRegisterLines(t *testing.T) {
	if err := gpioreg.Register(theirPin{gpio.INVALID}); err != nil {
		t.Fatal(err)
	}
	m, k := registered(t, map[string]*fakeChip{
		"gpiochip0": bench("test-a", "TEST_OURS", "", "TEST_TWICE"),
		"gpiochip1": bench("test-b", "TEST_TWICE"),
	})
	if len(m.Notes()) != 0 {
		t.Errorf("notes %v", m.Notes())
	}
	for name, want := range map[string]string{
		"TEST_OURS": "test-a:0 (TEST_OURS)", "test-a:1": "test-a:1", "test-a:2": "test-a:2 (TEST_TWICE)", "test-b:0": "test-b:0 (TEST_TWICE)",
	} {
		if p := gpioreg.ByName(name); p == nil || p.String() != want || p.Name() != name {
			t.Errorf("pin %s is %v, want %s", name, p, want)
		}
	}
	if p := gpioreg.ByName("TEST_TWICE"); p != nil {
		t.Errorf("a name of two lines gives %v", p)
	}
	if err := gpioreg.ByName("TEST_OURS").Out(gpio.High); err != nil {
		t.Fatal(err)
	}
	if l := k.chips["gpiochip0"].lines[0]; !l.high || l.requests != 1 {
		t.Errorf("driving the registered pin did not drive our line: %+v", l)
	}
	if again := m.register(); len(again) != 0 {
		t.Errorf("registering a second time: %v", again)
	}
}

func TestRegisterPiLines(t *testing.T) {
	names := make([]string, 54)
	names[2], names[17] = "SDA1", "GPIO17"
	registered(t, map[string]*fakeChip{"gpiochip0": bench("pinctrl-bcm2835", names...)})
	for name, want := range map[string]string{
		"GPIO17": "pinctrl-bcm2835:17 (GPIO17)",
		"P1_11":  "pinctrl-bcm2835:17 (GPIO17)",
		"GPIO2":  "pinctrl-bcm2835:2 (SDA1)",
		"P1_3":   "pinctrl-bcm2835:2 (SDA1)",
		"P1_40":  "pinctrl-bcm2835:21",
		"GPIO53": "pinctrl-bcm2835:53",
	} {
		p := gpioreg.ByName(name)
		if p == nil {
			t.Errorf("no pin %s", name)
			continue
		}
		if r, ok := p.(gpio.RealPin); ok {
			p = r.Real()
		}
		if p.String() != want {
			t.Errorf("pin %s is %s, want %s", name, p, want)
		}
	}
	if p := gpioreg.ByName("P1_1"); p != nil {
		t.Errorf("P1_1 is %v", p)
	}
}

func TestRegisterNotes(t *testing.T) {
	m, k := newFakeMachine(t, map[string]*fakeChip{"gpiochip0": bench("test-locked", "TEST_LOCKED")})
	k.opening["gpiochip0"] = unix.EACCES
	if notes := m.register(); len(notes) != 1 || !strings.Contains(notes[0], "permission denied") {
		t.Errorf("notes %v", notes)
	}
}

// Our bus replaces the one that periph registered, under all its names.
func TestRegisterBus(t *testing.T) {
	theirs := func() (i2c.BusCloser, error) { return &i2ctest.Playback{}, nil }
	if err := i2creg.Register("/dev/i2c-1042", []string{"I2C1042"}, 1042, theirs); err != nil {
		t.Fatal(err)
	}
	m, _ := newFakeMachine(t, nil)
	if err := os.WriteFile(filepath.Join(m.dev, "i2c-1042"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if notes := m.register(); len(notes) != 0 {
			t.Errorf("notes %v", notes)
		}
	}
	for _, name := range []string{"/dev/i2c-1042", "i2c-1042", "I2C1042", "1042"} {
		// Only our bus opens a plain file, which then fails its first request.
		if _, err := i2creg.Open(name); !errors.Is(err, unix.ENOTTY) {
			t.Errorf("open %s: %v, want ours", name, err)
		}
	}
	if got := m.Buses(); len(got) != 1 || got[0] != "i2c-1042" {
		t.Errorf("Buses() = %v", got)
	}
}

func benchPin(t *testing.T, offset int) (*linePin, *fakeGPIO, *fakeLine) {
	t.Helper()
	m, k, lines := benchMachine(t)
	p := &linePin{m: m, id: LineID{"bench-gpio", "gpiochip0", offset, lines[offset].name}, name: "PIN"}
	return p, k, lines[offset]
}

// The first Out does not pass through the other level, and Read leaves an output an
// output.
func TestPinOut(t *testing.T) {
	p, _, l := benchPin(t, 1)
	if p.Function() != "" || p.Read() != gpio.Low || p.Number() != 1 || p.Name() != "PIN" {
		t.Errorf("a pin not requested: %q %v %d %q", p.Function(), p.Read(), p.Number(), p.Name())
	}
	if err := p.Out(gpio.High); err != nil {
		t.Fatal(err)
	}
	if l.request.Config.Attrs[0].Attr.Value64() != 1 || !l.high {
		t.Error("the first level was not high from the start")
	}
	if p.Read() != gpio.High || p.Function() != "Out" || !l.request.Config.Flags.IsOutput() || l.requests != 1 {
		t.Errorf("after Read: %q, %d requests", p.Function(), l.requests)
	}
	if err := p.Out(gpio.Low); err != nil || l.high || l.requests != 1 {
		t.Errorf("second Out: %v, high %v, %d requests", err, l.high, l.requests)
	}
	if p.WaitForEdge(0) {
		t.Error("an output had an edge")
	}
	if err := p.PWM(gpio.DutyHalf, physic.KiloHertz); err == nil {
		t.Error("PWM succeeded")
	}
	if err := p.Halt(); err != nil || l.held() {
		t.Errorf("Halt: %v, held %v", err, l.held())
	}
	if err := p.Halt(); err != nil {
		t.Errorf("second Halt: %v", err)
	}
}

func TestPinIn(t *testing.T) {
	defer goleak.VerifyNone(t)
	p, k, l := benchPin(t, 0)
	if err := p.Out(gpio.High); err != nil {
		t.Fatal(err)
	}
	if err := p.In(gpio.PullUp, gpio.RisingEdge); err != nil {
		t.Fatal(err)
	}
	if !l.request.Config.Flags.IsBiasPullUp() || !l.request.Config.Flags.IsBothEdges() || p.Pull() != gpio.PullUp || p.Function() != "In" {
		t.Errorf("flags %b, pull %v, function %s", l.request.Config.Flags, p.Pull(), p.Function())
	}
	k.wire("gpiochip0", 0, false, 1, 0)
	k.wire("gpiochip0", 0, true, 2, 0)
	if !p.WaitForEdge(-1) || p.Read() != gpio.High {
		t.Error("no rising edge")
	}
	if err := p.In(gpio.Float, gpio.NoEdge); err != nil {
		t.Fatal(err)
	}
	if l.request.Config.Flags.IsBothEdges() || p.WaitForEdge(-1) {
		t.Error("edges where none were asked for")
	}
	if err := p.Out(gpio.Low); err != nil || l.high {
		t.Errorf("Out after In: %v", err)
	}
	if p.DefaultPull() != gpio.PullNoChange || p.Pull() != gpio.PullNoChange {
		t.Errorf("pulls %v, %v", p.DefaultPull(), p.Pull())
	}
	for _, err := range []error{p.In(99, gpio.NoEdge), p.In(gpio.Float, 99), p.In(gpio.Float, -1)} {
		if err == nil || !strings.Contains(err.Error(), "unknown") {
			t.Errorf("In with nonsense: %v", err)
		}
	}
	if err := p.Halt(); err != nil {
		t.Error(err)
	}
}

// Edges of the other kind do not end a wait. Halt and the timeout do.
func TestPinWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := newEdgeQueue()
		p := &linePin{in: &inputLine{queue: queue}, edge: gpio.FallingEdge}
		queue.addEdge(Edge{Active: true})
		if p.WaitForEdge(time.Second) {
			t.Error("a rising edge ended the wait for a falling one")
		}
		queue.addEdge(Edge{Active: false})
		if !p.WaitForEdge(0) && !p.WaitForEdge(time.Second) {
			t.Error("no falling edge")
		}
		ended := make(chan bool)
		go func() { ended <- p.WaitForEdge(-1) }()
		synctest.Wait()
		close(queue.edges)
		if <-ended {
			t.Error("Halt counted as an edge")
		}
	})
}

func TestPinBusy(t *testing.T) {
	p, _, l := benchPin(t, 3)
	l.holder = "gpio-leds"
	var busy *BusyError
	if err := p.Out(gpio.High); !errors.As(err, &busy) || busy.Holder != "gpio-leds" {
		t.Errorf("Out: %v", err)
	}
	if err := p.In(gpio.Float, gpio.NoEdge); !errors.As(err, &busy) {
		t.Errorf("In: %v", err)
	}
	if p.Function() != "" {
		t.Errorf("function %q", p.Function())
	}
}

func TestOpen(t *testing.T) {
	m, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if m.Root() != "/" || m.String() == "" {
		t.Errorf("root %q of %q", m.Root(), m)
	}
	if _, err := m.Bus("one"); err == nil || !strings.Contains(err.Error(), "no I2C adapter has this in its name") {
		t.Errorf("Bus(one): %v", err)
	}
	if b, err := m.Bus("i2c-1999"); !errors.Is(err, ErrAbsent) || b != nil {
		t.Errorf("Bus(i2c-1999): %v, %v", b, err)
	}
	if in, err := m.Input(InputConfig{Line: "NO_SUCH_LINE"}); err == nil || in != nil {
		t.Errorf("Input: %v, %v", in, err)
	}
	if out, err := m.Output(OutputConfig{Line: "NO_SUCH_LINE"}); err == nil || out != nil {
		t.Errorf("Output: %v, %v", out, err)
	}
	if f, err := Hold(OutputConfig{Line: "NO_SUCH_LINE"}); err == nil || f != nil {
		t.Errorf("Hold: %v, %v", f, err)
	}
}

// BenchmarkOpen measures the registration with periph at the start.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	chip := bench("pinctrl-bcm2711", make([]string, 58)...)
	if err := os.WriteFile(filepath.Join(dir, "gpiochip0"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	k := &fakeGPIO{dev: dir, chips: map[string]*fakeChip{"gpiochip0": chip}}
	m := &Machine{dev: dir, kernel: k}
	for b.Loop() {
		m.register()
	}
}
