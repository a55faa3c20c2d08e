package board

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Devices are listed by their own names, without links to them. A serial port without
// hardware is left out.
func TestInventory(t *testing.T) {
	dir := t.TempDir()
	m := &Machine{dev: filepath.Join(dir, "dev"), root: dir}
	for name, text := range map[string]string{
		"dev/i2c-1": "", "dev/i2c-10": "", "dev/spidev0.1": "", "dev/ttyAMA0": "", "dev/ttyS0": "", "dev/ttyS1": "",
		"dev/tty1": "", "dev/ttyprintk": "", "dev/ttyUSB0": "",
		"sys/class/tty/ttyS0/type": "4\n", "sys/class/tty/ttyS1/type": "0\n",
		"sys/bus/i2c/devices/i2c-1/name": "bcm2835 (i2c@7e804000)\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"ttyUSB9": "ttyUSB0", "i2c-2": "i2c-1", "spidev9.9": "spidev0.1"} {
		if err := os.Symlink(target, filepath.Join(dir, "dev", link)); err != nil {
			t.Fatal(err)
		}
	}
	got := fmt.Sprintf("%q %q %q", m.Adapters(), m.SPIs(), m.Serials())
	want := `[{"i2c-1" "bcm2835 (i2c@7e804000)"} {"i2c-10" ""}] ["spidev0.1"] ["ttyAMA0" "ttyS0" "ttyUSB0"]`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHeaderPin(t *testing.T) {
	for pin, want := range map[int]string{1: "-1 3.3 V", 2: "-1 5 V", 3: "2 ", 39: "-1 ground", 40: "21 "} {
		if gpio, power := HeaderPin(pin); fmt.Sprint(gpio, " ", power) != want {
			t.Errorf("pin %d is %d %q, want %q", pin, gpio, power, want)
		}
	}
}
