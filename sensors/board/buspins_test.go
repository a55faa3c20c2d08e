package board

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// writeRoot writes files under a new directory, the machine's root.
func writeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestBusLines(t *testing.T) {
	const (
		dev  = "sys/bus/i2c/devices/"
		tree = "sys/firmware/devicetree/base/soc/"
	)
	root := writeRoot(t, map[string]string{
		dev + "i2c-1/of_node/pinctrl-0":        "\x00\x00\x00\x15",
		dev + "i2c-3/of_node/pinctrl-0":        "\x00\x00\x00\x16",
		dev + "i2c-4/of_node/pinctrl-0":        "\x00\x00\x00\x17",
		dev + "i2c-5/of_node/sda-gpios":        "\x00\x00\x00\x07\x00\x00\x00\x17\x00\x00\x00\x06",
		dev + "i2c-5/of_node/scl-gpios":        "\x00\x00\x00\x07\x00\x00\x00\x18\x00\x00\x00\x06",
		dev + "i2c-6/of_node/gpios":            "\x00\x00\x00\x07\x00\x00\x00\x05\x00\x00\x00\x06\x00\x00\x00\x07\x00\x00\x00\x06\x00\x00\x00\x06",
		dev + "i2c-7/of_node/pinctrl-0":        "\x00",
		dev + "i2c-8/of_node/pinctrl-0":        "\x00\x00\x00\x99",
		tree + "gpio@7e200000/other/phandle":   "\x00\x00\x00\x14",
		tree + "gpio@7e200000/other/brcm,pins": "\x00\x00\x00\x04",
		tree + "gpio@7e200000/i2c1/phandle":    "\x00\x00\x00\x15",
		tree + "gpio@7e200000/i2c1/brcm,pins":  "\x00\x00\x00\x2c\x00\x00\x00\x2d",
		tree + "gpio@7e200000/i2c3/phandle":    "\x00\x00\x00\x16",
		tree + "gpio@7e200000/i2c3/brcm,pins":  "\x00\x00\x00\x04\x00\x00\x00\x05\x00",
		tree + "rp1/gpio/i2c4/phandle":         "\x00\x00\x00\x17",
		tree + "rp1/gpio/i2c4/pins":            "gpio8\x00gpio9\x00",
	})
	mux := writeRoot(t, map[string]string{
		tree + "i2c0mux/pinctrl-0":       "\x00\x00\x00\x20",
		tree + "i2c0mux/pinctrl-1":       "\x00\x00\x00\x21",
		tree + "i2c0mux/i2c@0/reg":       "\x00\x00\x00\x00",
		tree + "i2c0mux/i2c@1/reg":       "\x00\x00\x00\x01",
		tree + "gpio/i2c0/phandle":       "\x00\x00\x00\x20",
		tree + "gpio/i2c0/brcm,pins":     "\x00\x00\x00\x00\x00\x00\x00\x01",
		tree + "gpio/i2c0_dsi/phandle":   "\x00\x00\x00\x21",
		tree + "gpio/i2c0_dsi/brcm,pins": "\x00\x00\x00\x2c\x00\x00\x00\x2d",
		tree + "i2c@7ef09500/reg":        "", // HDMI's, and no pins
	})
	for bus, node := range map[string]string{"i2c-0": "i2c0mux/i2c@0", "i2c-10": "i2c0mux/i2c@1", "i2c-1": "i2c@7ef09500"} {
		if err := os.MkdirAll(filepath.Join(mux, dev, bus), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(mux, tree, node), filepath.Join(mux, dev, bus, "of_node")); err != nil {
			t.Fatal(err)
		}
	}
	for bus, want := range map[string][]int{"i2c-0": {0, 1}, "i2c-10": {44, 45}, "i2c-1": nil} {
		if got := BusLines(mux, bus); !slices.Equal(got, want) {
			t.Errorf("behind a multiplexer: %s is on %v, want %v", bus, got, want)
		}
	}
	for bus, want := range map[string][]int{
		"i2c-0": {0, 1}, "i2c-1": {44, 45}, "i2c-2": nil, "i2c-3": {4, 5}, "i2c-4": {8, 9},
		"i2c-5": {23, 24}, "i2c-6": {5, 6}, "i2c-7": nil, "i2c-8": nil,
	} {
		if got := BusLines(root, bus); !slices.Equal(got, want) {
			t.Errorf("%s is on %v, want %v", bus, got, want)
		}
	}
	if got := BusLines(t.TempDir(), "i2c-1"); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("i2c-1 without a device tree is on %v", got)
	}
	for _, c := range []struct {
		label  string
		offset int
		want   bool
	}{{"pinctrl-bcm2711", 2, true}, {"pinctrl-rp1", 3, true}, {"pinctrl-rp1", 4, false}, {"1e780000.gpio", 2, false}} {
		if got := OnBus(t.TempDir(), "i2c-1", LineID{Label: c.label, Offset: c.offset}); got != c.want {
			t.Errorf("line %d of %s on i2c-1: %v", c.offset, c.label, got)
		}
	}
}
