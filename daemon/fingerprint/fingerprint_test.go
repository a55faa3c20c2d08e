package fingerprint_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fieldpost/daemon/fingerprint"
)

// pi is what a Raspberry Pi shows of itself.
var pi = map[string]string{
	"sys/firmware/devicetree/base/serial-number": "10000000abcdef01\x00",
	"proc/device-tree/serial-number":             "10000000abcdef01\x00",
	"etc/machine-id":                             "0123456789abcdef0123456789abcdef\n",
	"sys/class/net/eth0/address":                 "b8:27:eb:12:34:56\n",
	"sys/class/net/eth0/addr_assign_type":        "0\n",
	"sys/class/net/eth0/device/uevent":           "",
	"sys/class/net/lo/address":                   "00:00:00:00:00:00\n",
	"sys/class/net/lo/addr_assign_type":          "0\n",
	"sys/class/net/wg0/address":                  "02:00:00:00:00:01\n",
	"sys/class/net/wg0/addr_assign_type":         "3\n",
}

func of(t *testing.T, files map[string]string) string {
	t.Helper()
	return fingerprint.Board(root(t, files))
}

// root returns a directory with these files.
func root(t *testing.T, files map[string]string) string {
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

// The serial number is the device tree's, else that of the DMI tables.
func TestSerial(t *testing.T) {
	for _, tt := range []struct {
		m    map[string]string
		want string
	}{
		{pi, "10000000abcdef01"},
		{with("sys/firmware/devicetree/base/serial-number", "-"), "10000000abcdef01"},
		{map[string]string{"sys/class/dmi/id/product_serial": "PF 3X\n", "etc/machine-id": "1\n"}, "pf3x"},
		{map[string]string{"sys/class/dmi/id/product_serial": "To be filled by O.E.M.\n"}, ""},
		{map[string]string{"etc/machine-id": "0123456789abcdef0123456789abcdef\n", "sys/class/dmi/id/product_uuid": "4c4c4544\n"}, ""},
	} {
		if got := fingerprint.Serial(root(t, tt.m)); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.m, got, tt.want)
		}
	}
}

// with returns the Pi with a file changed; "-" removes it.
func with(name, text string) map[string]string {
	m := maps.Clone(pi)
	if m[name] = text; text == "-" {
		delete(m, name)
	}
	return m
}

// What only one board has changes the fingerprint, what comes and goes does not.
func TestBoard(t *testing.T) {
	want := of(t, pi)
	if ok, _ := regexp.MatchString("^[0-9a-f]{32}$", want); !ok {
		t.Errorf("got %q", want)
	}
	for _, x := range pi { // nothing of it can be read off
		if x = strings.Trim(x, "\x00\n"); len(x) > 3 && strings.Contains(want, x) {
			t.Errorf("%q tells %q", want, x)
		}
	}
	for _, tt := range []struct {
		name string
		m    map[string]string
		same bool
	}{
		{"the same", pi, true},
		{"another serial number", with("sys/firmware/devicetree/base/serial-number", "10000000abcdef02\x00"), false},
		{"another machine id", with("etc/machine-id", "1123456789abcdef0123456789abcdef\n"), false},
		{"another address", with("sys/class/net/eth0/address", "b8:27:eb:12:34:57\n"), false},
		{"a DMI serial number", with("sys/class/dmi/id/product_serial", "C02X\n"), false},
		{"a DMI uuid", with("sys/class/dmi/id/product_uuid", "4c4c4544-0042-4b10-8051-cac04f4d4d32\n"), false},
		{"one device tree is hidden", with("proc/device-tree/serial-number", "-"), true},
		{"a DMI filler", with("sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n"), true},
		{"a DMI uuid of nothing", with("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n"), true},
		{"another tunnel", with("sys/class/net/wg0/address", "02:00:00:00:00:02\n"), true},
		{"an interface without a place for its address", with("sys/class/net/usb0/device/uevent", ""), true},
		{"a file of another kind of case", with("etc/machine-id", "0123456789ABCDEF0123456789ABCDEF"), true},
	} {
		if got := of(t, tt.m); (got == want) != tt.same {
			t.Errorf("%s: %q, was %q", tt.name, got, want)
		}
	}
	drawn := with("sys/class/net/eth0/addr_assign_type", "1\n")
	other := maps.Clone(drawn)
	other["sys/class/net/eth0/address"] = "b8:27:eb:00:00:00\n"
	if of(t, drawn) != of(t, other) {
		t.Error("an address drawn by lot counts")
	}
	if got := of(t, nil); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}
