package board

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

var _ Inventory = (*Machine)(nil)

// Adapters lists the I2C buses whose device files are there, by number.
func (m *Machine) Adapters() []Adapter {
	var all []Adapter
	for _, a := range adapters(m.dev, m.root) {
		all = append(all, Adapter{Bus: fmt.Sprintf("i2c-%d", a.number), Name: a.name})
	}
	return all
}

// SPIs lists the SPI devices.
func (m *Machine) SPIs() []string { return deviceFiles(m.dev, "spidev*") }

// realPort matches the names of serial ports that a chip can be on.
var realPort = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^tty(AMA|S|USB|ACM|O|mxc|SAC|AML|HS|LP)[0-9]+$`) })

// Serials lists the serial ports. A port of the driver 8250 that has no hardware is of type 0
// (Linux, Documentation/ABI/testing/sysfs-tty).
func (m *Machine) Serials() []string {
	return slices.DeleteFunc(deviceFiles(m.dev, "tty*"), func(name string) bool {
		kind, err := os.ReadFile(filepath.Join(m.root, "sys/class/tty", name, "type"))
		return !realPort().MatchString(name) || err == nil && strings.TrimSpace(string(kind)) == "0"
	})
}

// deviceFiles lists the device files of a pattern, without links.
func deviceFiles(dev, pattern string) []string {
	paths, _ := filepath.Glob(filepath.Join(dev, pattern)) // the pattern is well formed
	var names []string
	for _, p := range paths {
		if info, err := os.Lstat(p); err == nil && info.Mode()&os.ModeSymlink == 0 {
			names = append(names, filepath.Base(p))
		}
	}
	return names
}
