package board

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// Which chip is an expander is known from where /sys has it.
func TestWhichChipIsAnExpander(t *testing.T) {
	root := t.TempDir()
	device := func(dir, subsystem, chip string) {
		full := filepath.Join(root, "sys/devices", dir)
		for _, d := range []string{filepath.Join(full, chip), filepath.Join(root, "sys/bus/gpio/devices")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/sys/bus/"+subsystem, filepath.Join(full, "subsystem")); err != nil {
			t.Fatal(err)
		}
		if chip == "" {
			return
		}
		if err := os.Symlink(filepath.Join(full, chip), filepath.Join(root, "sys/bus/gpio/devices", chip)); err != nil {
			t.Fatal(err)
		}
	}
	device("platform/soc/fe200000.gpio", "platform", "gpiochip0")
	device("platform/soc/fe804000.i2c/i2c-1/1-0020", "i2c", "gpiochip1")
	device("platform/soc/fe204000.spi/spi_master/spi0/spi0.0", "spi", "gpiochip2")
	const usb = "platform/soc/fd500000.pcie/usb1/1-1/1-1.2/1-1.2:1.0"
	device("platform/soc/fd500000.pcie", "pci", "")
	device(usb, "usb", "gpiochip3")                                     // cp210x, ftdi_sio
	device(usb+"/0003:04D8:00DD.0005", "hid", "gpiochip4")              // mcp2221; its number counts the plugs
	device(usb+"/0003:04D8:00DD.0005/i2c-5/5-0020", "i2c", "gpiochip5") // an expander behind it
	m := &Machine{root: root}
	for chip, want := range map[string]string{
		"gpiochip0": "", "gpiochip1": "1-0020", "gpiochip2": "spi0.0", "gpiochip9": "",
		"gpiochip3": "usb 1-1.2:1.0", "gpiochip4": "usb 1-1.2:1.0", "gpiochip5": "5-0020",
	} {
		if got := m.Expander(LineID{Chip: chip}); got != want {
			t.Errorf("%s: %q, want %q", chip, got, want)
		}
	}
	for name, want := range map[string]uint16{"1-0020": 0x20, "12-003f": 0x3f, "spi0.0": 0, "1-1020": 0, "x-0020": 0, "usb 1-1.2:1.0": 0, "usb 1-1": 0} {
		if _, got, ok := i2cPlace(name); got != want || ok != (want != 0) {
			t.Errorf("%s: 0x%02x, %v", name, got, ok)
		}
	}
}

// steps records what the kernel is asked for.
type steps struct {
	gpioKernel
	did  []string
	fail map[string]error // of the next call of that name
	high bool             // what is read
	set_ func(active bool)
}

func (s *steps) call(name string) error {
	s.did = append(s.did, name)
	err := s.fail[name]
	delete(s.fail, name)
	return err
}

func (s *steps) set(_ *os.File, v uapi.LineValues) error {
	if s.set_ != nil {
		s.set_(v.Bits&1 != 0)
	}
	return s.call(map[uint64]string{0: "set 0", 1: "set 1"}[uint64(v.Bits&1)])
}

func (s *steps) get(*os.File) (uapi.LineValues, error) { return values(s.high), s.call("get") }

func (s *steps) configure(_ *os.File, c uapi.LineConfig) error {
	if c.Flags.IsOutput() {
		s.high = c.Attrs[0].Attr.Value64()&1 != 0
		return s.call("output")
	}
	return s.call("input")
}

// Restore writes what the kernel's copy does not have: first the other level, then, if
// that does not help, the direction. If it fails in between, the next level makes the
// line an output again.
func TestRestore(t *testing.T) {
	k := &steps{fail: map[string]error{}}
	o := &outputLine{m: &Machine{kernel: k}}
	want := func(what string, err error, wantErr bool, did string) {
		t.Helper()
		if got := strings.Join(k.did, ", "); got != did || (err != nil) != wantErr {
			t.Errorf("%s: %s, %v; want %s", what, got, err, did)
		}
		k.did = nil
	}
	k.set_ = func(active bool) { k.high = active }
	want("a write that was lost", o.Restore(true), false, "set 0, set 1, get")
	k.set_, k.high = nil, false
	want("a direction that was lost", o.Restore(true), false, "set 0, set 1, get, input, output")
	k.high, k.fail["input"] = false, unix.EREMOTEIO
	err := o.Restore(true)
	want("no answer", err, true, "set 0, set 1, get, input")
	if !strings.Contains(err.Error(), "its chip does not answer, check its power and wires") {
		t.Errorf("no answer: %v", err)
	}
	k.high, k.fail["output"] = false, unix.ETIMEDOUT
	want("no answer after half of it", o.Restore(true), true, "set 0, set 1, get, input, output")
	want("the level after that", o.Set(false), false, "output")
	want("an output again, without a moment at the pull", o.Drive(true), false, "output")
	want("held by its pull alone", o.Redrive(true), false, "input, output")
	want("the next one", o.Set(true), false, "set 1")
}
