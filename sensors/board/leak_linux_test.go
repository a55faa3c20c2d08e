package board

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptors returns the open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("descriptors cannot be counted: %v", err)
	}
	return len(all)
}

// A sensor that is broken for a year is opened some hundred thousand times. No transport
// leaves a descriptor open when that fails, nor after it was opened and closed. The garbage
// collector, which would close them some day, is off.
func TestAttemptsLeaveNoDescriptorOpen(t *testing.T) {
	m, k := newFakeMachine(t, map[string]*fakeChip{"gpiochip0": bench("pinctrl", "GPIO17", "GPIO18")})
	m.root = t.TempDir()
	k.chips["gpiochip1"] = &fakeChip{label: "broken", lines: []*fakeLine{{name: "GPIO27", events: -1}}, fail: unix.EIO}
	for _, name := range []string{"gpiochip1", "i2c-1", "spidev0.0", "ttyUSB0"} {
		if err := os.WriteFile(filepath.Join(m.dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, port := terminal(t)
	if err := os.Symlink(port, filepath.Join(m.dev, "ttyUSB1")); err != nil {
		t.Fatal(err)
	}
	type closer interface{ Close() error }
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for what, open := range map[string]func() (closer, error){
		"a bus that is no I2C adapter":    func() (closer, error) { return m.Bus("i2c-1") },
		"a bus that is not there":         func() (closer, error) { return m.Bus("i2c-2") },
		"a device that is no SPI":         func() (closer, error) { return m.SPI(SPIConfig{Device: "spidev0.0"}) },
		"a port that is no terminal":      func() (closer, error) { return m.Serial(SerialConfig{Device: "ttyUSB0", Baud: 9600}) },
		"a port that is not there":        func() (closer, error) { return m.Serial(SerialConfig{Device: "ttyUSB9", Baud: 9600}) },
		"a port":                          func() (closer, error) { return m.Serial(SerialConfig{Device: "ttyUSB1", Baud: 9600}) },
		"an input of a broken chip":       func() (closer, error) { return m.Input(InputConfig{Line: "GPIO27"}) },
		"pulses of a broken chip":         func() (closer, error) { return m.EdgeReader(InputConfig{Line: "GPIO27"}) },
		"an output of a broken chip":      func() (closer, error) { return m.Output(OutputConfig{Line: "GPIO27"}) },
		"an input":                        func() (closer, error) { return m.Input(InputConfig{Line: "GPIO17"}) },
		"pulses":                          func() (closer, error) { return m.EdgeReader(InputConfig{Line: "GPIO17"}) },
		"an output":                       func() (closer, error) { return m.Output(OutputConfig{Line: "GPIO18"}) },
		"a line that is not there":        func() (closer, error) { return m.Input(InputConfig{Line: "GPIO99"}) },
		"an output with an unknown drive": func() (closer, error) { return m.Output(OutputConfig{Line: "GPIO18", Drive: "none"}) },
	} {
		before := 0
		for i := range 500 {
			if i == 1 {
				before = descriptors(t) // the first one may have made the runtime's poller
			}
			if x, err := open(); err == nil {
				if err := x.Close(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
		}
		// The fake kernel's own end of a line's pipe is closed with the next request.
		if after := descriptors(t); after > before+2 {
			t.Errorf("%s: %d descriptors are open after 500 attempts, and %d were after one", what, after, before)
		}
	}
}
