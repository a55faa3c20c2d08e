package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/daemon/config"
	"fieldpost/daemon/sampler"
	"fieldpost/sensors"
	"fieldpost/sensors/scan"
	"fieldpost/sensors/sim"
)

// unidentifiable are the chips that cannot be told from others by reading.
var unidentifiable = map[string]bool{"bh1750": true, "aht10": true, "pct2075": true}

// randomBoard makes a board with up to a dozen chips on up to three buses, and with
// devices of kernel drivers. It returns the chips by bus and address.
func randomBoard(t *testing.T, rng *rand.Rand) (*sim.Board, map[string]string) {
	t.Helper()
	b := sim.New()
	b.SetRoot(t.TempDir())
	placed := map[string]string{}
	catalog := sensors.Catalog()
	for n := range 1 + rng.IntN(3) {
		bus := b.AddBus(fmt.Sprintf("i2c-%d", n))
		for range rng.IntN(12) {
			c := catalog[rng.IntN(len(catalog))]
			if len(c.Addresses) == 0 {
				continue
			}
			addr := c.Addresses[rng.IntN(len(c.Addresses))]
			at := fmt.Sprintf("%s %#x", bus.Name(), addr)
			if placed[at] == "" && bus.AddChip(c.Name, addr) {
				placed[at] = c.Name
				if rng.IntN(10) == 0 {
					bus.Own(addr, "driver\n- x: y")
					placed[at] = "owned"
				}
			}
		}
	}
	kernel := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if rng.IntN(2) == 0 {
		kernel(b.WriteThermal(0, "cpu-thermal", 50))
		kernel(b.WriteThermal(1, "cpu-thermal", 51))
		kernel(b.WriteHwmon(0, "cpu_thermal", "thermal_zone0", map[string]string{"temp1_input": "50000"}))
	}
	names := []string{"sht3x", "fieldpost", "a: b #\"'", "thermal", "sht3x-2", "\u00e9\u2028"}
	for n := range rng.IntN(5) {
		kernel(b.WriteHwmon(1+n, names[rng.IntN(len(names))], fmt.Sprintf("1-%04x", 0x44+n), map[string]string{"temp1_input": "21000"}))
	}
	for n := range rng.IntN(3) {
		kernel(b.WriteIIO(n, []string{"dht11", "mcp3008", "bme680"}[n], fmt.Sprintf("dht11@%d", n), map[string]string{"in_temp_input": "21000", "in_humidityrelative_input": "50000"}))
	}
	for n := range rng.IntN(3) {
		kernel(b.WriteW1(fmt.Sprintf("28-00000a1b2c3%d", n), "91 01 4b 46 7f ff 0c 10 70 : crc=70 YES\n91 01 4b 46 7f ff 0c 10 70 t=25062\n"))
	}
	return b, placed
}

// The output of `scan --yaml` for any board is a valid configuration with all chips that
// can be recognised, and each of its sensors can be opened and read.
func TestScanRoundTrip(t *testing.T) {
	sensorsSeen := 0
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			b, placed := randomBoard(t, rand.New(rand.NewPCG(seed, 1)))
			cfg := scanned(t, b)
			for _, s := range cfg.Sensors {
				sensorsSeen++
				if _, err := sampler.Once(t.Context(), b, s); err != nil {
					t.Errorf("seed %d: %s: %v", seed, s.Name, err)
				}
				delete(placed, fmt.Sprintf("%s %#x", s.Place().Bus, s.Place().Address))
			}
			unsure := map[string]bool{} // buses with a chip that was not recognised
			for at, chip := range placed {
				bus, _, _ := strings.Cut(at, " ")
				unsure[bus] = unsure[bus] || unidentifiable[chip]
			}
			for at, chip := range placed {
				if bus, addr, _ := strings.Cut(at, " "); addr == "0x70" && unsure[bus] {
					continue // it might be all PCA9685 of the bus
				}
				if !unidentifiable[chip] && chip != "owned" && !strings.Contains(at, " 0x3") { // where scan must not write
					t.Errorf("seed %d: the %s at %s is not in the configuration", seed, chip, at)
				}
			}
		})
	}
	if sensorsSeen < 500 {
		t.Errorf("only %d sensors in all", sensorsSeen)
	}
}

// scanned loads the configuration that scan prints, as `check` does.
func scanned(t *testing.T, b *sim.Board) *config.Config {
	t.Helper()
	var out bytes.Buffer
	if err := scan.Scan(t.Context(), b, scan.Options{}).WriteYAML(&out, "thing-1"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "fieldpost.yaml")
	for _, name := range []string{"fieldpost.yaml", "certs/AmazonRootCA1.pem", "certs/certificate.pem.crt", "certs/private.pem.key"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return cfg
}
