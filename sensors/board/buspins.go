package board

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// BusLines returns the GPIO numbers of the Raspberry Pi's lines that carry the bus i2c-N.
// Requesting one of them disconnects the bus, and its chips no longer answer. BusLines
// returns nil if it does not know, as on other boards.
//
// It reads the device tree under root/sys. There are three cases. The bus's node has a
// pinctrl-0, which points to a node with brcm,pins (BCM2835 to BCM2711) or pins (RP1). Or
// the bus is behind a pin multiplexer, whose node has a pinctrl for each of its buses. Or
// the bus is of i2c-gpio, and its node names the lines. Without such a node, i2c-0 and
// i2c-1 have their usual pins of the header.
//
// Sources: Linux, Documentation/devicetree/bindings: pinctrl/brcm,bcm2835-gpio.txt,
// pinctrl/raspberrypi,rp1-gpio.yaml, i2c/i2c-gpio.yaml,
// i2c/i2c-mux-pinctrl.yaml; Raspberry Pi
// documentation, "GPIO and the 40-pin header".
func BusLines(root, bus string) []int {
	node := filepath.Join(root, "sys/bus/i2c/devices", bus, "of_node")
	if lines := gpioNodeLines(node); lines != nil {
		return lines
	}
	real, err := filepath.EvalSymlinks(node)
	if err != nil {
		return map[string][]int{"i2c-0": {0, 1}, "i2c-1": {2, 3}}[bus]
	}
	_, channel, _ := strings.Cut(filepath.Base(real), "@")
	for _, state := range []string{filepath.Join(real, "pinctrl-0"), filepath.Join(filepath.Dir(real), "pinctrl-"+channel)} {
		if phandle, err := os.ReadFile(state); err == nil && len(phandle) >= 4 {
			return pinNodeLines(filepath.Join(root, "sys/firmware/devicetree/base"), phandle[:4])
		}
	}
	return nil
}

// gpioNodeLines reads the lines of an i2c-gpio bus. Each entry has a phandle, the line
// and flags.
func gpioNodeLines(node string) (lines []int) {
	for _, name := range []string{"sda-gpios", "scl-gpios", "gpios"} {
		b, err := os.ReadFile(filepath.Join(node, name))
		if err != nil {
			continue
		}
		for ; len(b) >= 12; b = b[12:] {
			lines = append(lines, int(binary.BigEndian.Uint32(b[4:])))
		}
	}
	return lines
}

// pinNodeLines finds the node with that phandle and reads its lines.
func pinNodeLines(tree string, phandle []byte) (lines []int) {
	_ = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error { // an unreadable node has no lines
		if err != nil || d.Name() != "phandle" {
			return nil
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, phandle) {
			return nil
		}
		node := filepath.Dir(path)
		if b, err := os.ReadFile(filepath.Join(node, "brcm,pins")); err == nil {
			for ; len(b) >= 4; b = b[4:] {
				lines = append(lines, int(binary.BigEndian.Uint32(b)))
			}
		}
		if b, err := os.ReadFile(filepath.Join(node, "pins")); err == nil {
			for pin := range strings.SplitSeq(string(b), "\x00") {
				if n, err := strconv.Atoi(strings.TrimPrefix(pin, "gpio")); err == nil {
					lines = append(lines, n)
				}
			}
		}
		return fs.SkipAll
	})
	return lines
}

// OnBus reports whether a Raspberry Pi's line carries the bus i2c-N. It reads /sys under
// root.
func OnBus(root, bus string, id LineID) bool {
	if !isPiChip(id.Label) {
		return false
	}
	for _, n := range BusLines(root, bus) {
		if n == id.Offset {
			return true
		}
	}
	return false
}
