package scan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/scan"
	"fieldpost/sensors/sim"
)

// unrecognised are the chips that cannot be recognised by reading them, with the reason.
// At some addresses no chip can be, because nothing may be written there.
var unrecognised = map[string]string{
	"bh1750": "it has no identity",
	"aht10":  "it has neither an identity nor a checksum",
}

// Every chip of the catalog, alone on a bus and at each of its addresses, is recognised,
// or is among the chips that it may be.
func TestRecognise(t *testing.T) {
	for _, c := range sensors.Catalog() {
		for _, addr := range c.Addresses {
			t.Run(fmt.Sprintf("%s/%#x", c.Name, addr), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := sim.New()
					if bus := b.AddBus("i2c-1"); !bus.AddChip(c.Name, addr) {
						if addr == c.Addresses[0] {
							t.Fatal("there is no simulated chip of this name")
						}
						return
					}
					r := scan.Scan(t.Context(), b, scan.Options{})
					if r.Buses[0].Problem != "" || len(r.Buses[0].Found) != 1 {
						t.Fatalf("found %+v", r.Buses)
					}
					f := r.Buses[0].Found[0]
					blind := addr >= 0x20 && addr <= 0x3F && (addr < 0x28 || addr >= 0x30) || addr >= 0x50 && addr < 0x58
					if f.Address != addr || f.Chip != c.Name && !slices.Contains(f.Or, c.Name) {
						t.Errorf("found %+v", f)
					}
					if want := unrecognised[c.Name] == "" && (!blind || c.Name == "aht20"); want != (f.Chip != "") && c.Name != "pct2075" {
						t.Errorf("found %+v, want it recognised: %t", f, want)
					}
				})
			})
		}
	}
}

// tap is a board that records writes.
type tap struct {
	*sim.Board
	wrote map[uint16]int // the longest write to each address
}

type tapped struct {
	i2c.BusCloser
	t *tap
}

func (t *tap) Bus(name string) (i2c.BusCloser, error) {
	bus, err := t.Board.Bus(name)
	return &tapped{bus, t}, err
}

func (b *tapped) Claim(addr uint16) error { return b.BusCloser.(board.Claimer).Claim(addr) }

func (b *tapped) Tx(addr uint16, w, r []byte) error {
	b.t.wrote[addr] = max(b.t.wrote[addr], len(w))
	return b.BusCloser.Tx(addr, w, r)
}

// Nothing unsafe is written to an expander, a memory or a chip with registers, and where
// nothing answers only Sensirion's commands.
func TestWhatIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &tap{sim.New(), map[uint16]int{}}
		bus := b.AddBus("i2c-1")
		for addr := uint16(0x03); addr <= 0x77; addr++ {
			if addr != 0x70 {
				sim.AddBH1750(bus, addr)
			}
		}
		scan.Scan(t.Context(), b, scan.Options{})
		for addr := uint16(0x03); addr <= 0x77; addr++ {
			safe := 1
			if addr >= 0x20 && addr <= 0x27 || addr >= 0x30 && addr <= 0x3F || addr >= 0x50 && addr <= 0x59 || addr == 0x5E || addr == 0x5F || addr == 0x70 {
				safe = 0
			}
			if b.wrote[addr] > safe {
				t.Errorf("%d bytes were written to %#02x, want %d at most", b.wrote[addr], addr, safe)
			}
		}
	})
}

// On an empty bus, commands are written only to addresses of chips with commands.
func TestWhatIsWrittenToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &tap{sim.New(), map[uint16]int{}}
		b.AddBus("i2c-1")
		if r := scan.Scan(t.Context(), b, scan.Options{}); len(r.Buses) != 1 || len(r.Buses[0].Found) != 0 || r.Buses[0].Problem != "" {
			t.Errorf("buses %+v", r.Buses)
		}
		for addr, n := range b.wrote {
			if n > 0 && !slices.Contains([]uint16{0x40, 0x44, 0x45, 0x46, 0x47, 0x58, 0x59, 0x61, 0x62, 0x69, 0x70}, addr) {
				t.Errorf("%d bytes were written to %#02x", n, addr)
			}
		}
	})
}

// An address that a kernel driver owns, or a running daemon reads, is named and not
// probed.
func TestLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &tap{sim.New(), map[uint16]int{}}
		bus := b.AddBus("i2c-1")
		bus.SetAdapter("CH341")
		bus.AddChip("tmp102", 0x48)
		bus.AddChip("bme280", 0x76)
		bus.AddChip("bmp180", 0x77)
		bus.Own(0x48, "tmp102")
		r := scan.Scan(t.Context(), b, scan.Options{Used: []scan.Use{{Sensor: "air", Chip: "bme280", Bus: "ch341", Address: 0x76}}})
		want := []scan.Found{{Address: 0x48, Driver: "tmp102"}, {Address: 0x76, Chip: "bme280", Sensor: "air"}, {Address: 0x77, Chip: "bmp180"}}
		if got := r.Buses[0].Found; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("found %+v, want %+v", got, want)
		}
		for _, addr := range []uint16{0x48, 0x76} {
			if _, touched := b.wrote[addr]; touched {
				t.Errorf("there was a transaction with %#x", addr)
			}
		}
		text := print(t, r)
		for _, want := range []string{"0x48  UU, belongs to the kernel's driver tmp102", "0x76  bme280, which the running daemon reads as air; not probed", "0x77  bmp180\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("the list lacks %q:\n%s", want, text)
			}
		}
		b.wrote = map[uint16]int{}
		r = scan.Scan(t.Context(), b, scan.Options{Leave: "is left"})
		if r.Buses[0].Problem != "is left" || len(b.wrote) > 0 {
			t.Errorf("%+v, transactions with %v", r.Buses[0], b.wrote)
		}
	})
}

func print(t *testing.T, r scan.Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Scan leaves a bus that blocks after some seconds, one that times out after two
// addresses, and one for displays at once. It probes the buses after them.
func TestBadBuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		for _, name := range []string{"i2c-1", "i2c-2", "i2c-3", "i2c-4", "i2c-5", "i2c-6"} {
			b.AddBus(name).AddChip("bme280", 0x76)
		}
		b.AddBus("i2c-1").Stick()
		b.AddBus("i2c-2").Fault(syscall.ETIMEDOUT)
		b.AddBus("i2c-3").SetAdapter("i915 gmbus dpb")
		b.AddBus("i2c-4").Fault(fmt.Errorf("%w (%w)", board.ErrAbsent, syscall.ENODEV))
		b.AddBus("i2c-5").Fault(syscall.EOPNOTSUPP)
		r := scan.Scan(t.Context(), b, scan.Options{})
		for i, want := range []string{"is stuck: a transaction has not ended", "is stuck: transaction with", "is not probed", "not there", "cannot be probed"} {
			if bus := r.Buses[i]; !strings.Contains(bus.Problem, want) || len(bus.Found) > 4 {
				t.Errorf("%s: %q, found %v; want %q", bus.Name, bus.Problem, bus.Found, want)
			}
		}
		if n := b.AddBus("i2c-2").Transactions(); n != 2 {
			t.Errorf("%d transactions on the bus that times out, want 2", n)
		}
		if n := b.AddBus("i2c-3").Transactions(); n != 0 {
			t.Errorf("%d transactions on a display's bus", n)
		}
		if f := r.Buses[5].Found; len(f) != 1 || f[0].Chip != "bme280" {
			t.Errorf("the healthy bus: %+v", r.Buses[5])
		}
		b.AddBus("i2c-1").Release()
	})
}

// A chip on the bus in front of a multiplexer is listed once.
func TestBehindAMultiplexer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1").AddChip("bme280", 0x76)
		behind := b.AddBus("i2c-2")
		behind.SetAdapter("i2c-1-mux (chan_id 0)")
		behind.AddChip("bme280", 0x76)
		behind.AddChip("bmp180", 0x77)
		r := scan.Scan(t.Context(), b, scan.Options{})
		if f := r.Buses[1].Found; len(r.Buses[0].Found) != 1 || len(f) != 1 || f[0].Chip != "bmp180" {
			t.Errorf("found %+v", r.Buses)
		}
	})
}

// A chip that breaks while it is probed is not recognised, but the others are.
func TestBadChips(t *testing.T) {
	for _, f := range []sim.Fault{sim.NACK, sim.EIO, sim.Ones, sim.Zeros, sim.Noise, sim.Timeout} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			bus := b.AddBus("i2c-1")
			bus.AddBME280(0x76).Fault(f)
			bus.AddChip("bmp180", 0x77)
			r := scan.Scan(t.Context(), b, scan.Options{})
			found := r.Buses[0].Found
			if len(found) == 0 || found[len(found)-1].Chip != "bmp180" {
				t.Errorf("fault %d: %+v", f, r.Buses[0])
			}
			for _, c := range found[:len(found)-1] {
				if c.Chip != "" {
					t.Errorf("fault %d: recognised %+v", f, c)
				}
			}
		})
	}
}

// denied is a board with devices that this user may not open.
type denied struct{ *sim.Board }

var errDenied = fmt.Errorf("open bus i2c-1: /dev/i2c-1: %w; add this user to the group i2c", fs.ErrPermission)

func (denied) Bus(string) (i2c.BusCloser, error) { return nil, errDenied }

func (denied) Chips() []board.ChipInfo {
	return []board.ChipInfo{{Device: "gpiochip0", Err: errors.New("open GPIO chip /dev/gpiochip0: permission denied; add this user to the group gpio")}}
}

// A device that may not be opened is named, with what to do.
func TestDenied(t *testing.T) {
	b := denied{sim.New()}
	b.AddBus("i2c-1")
	text := print(t, scan.Scan(t.Context(), b, scan.Options{}))
	for _, want := range []string{"i2c-1: open bus i2c-1: /dev/i2c-1: permission denied; add this user to the group i2c", "GPIO chip gpiochip0: open GPIO chip /dev/gpiochip0: permission denied; add this user to the group gpio"} {
		if !strings.Contains(text, want) {
			t.Errorf("the list lacks %q:\n%s", want, text)
		}
	}
}

func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := sim.New()
	b.AddBus("i2c-1").AddChip("bme280", 0x76)
	if r := scan.Scan(ctx, b, scan.Options{}); len(r.Buses) != 1 {
		t.Errorf("%+v", r)
	}
}

// kernelTree adds sensors of kernel drivers to the board.
func kernelTree(t *testing.T, b *sim.Board) {
	t.Helper()
	b.SetRoot(t.TempDir())
	for _, err := range []error{
		b.WriteHwmon(0, "cpu_thermal", "thermal_zone0", map[string]string{"temp1_input": "50000"}),
		b.WriteHwmon(1, "rpi_volt", "", map[string]string{"in0_lcrit_alarm": "0"}),
		b.WriteHwmon(2, "sht3x", "1-0044", map[string]string{"temp1_input": "21000", "humidity1_input": "50000"}),
		b.WriteHwmon(10, "nothing", "", nil),
		b.WriteHwmon(11, "w1_slave_temp", "28-00000a1b2c3d", map[string]string{"temp1_input": "25062"}), // the probe below
		b.WriteIIO(3, "maxim_thermocouple", "spi0.1", map[string]string{"in_temp_raw": "403", "in_temp_scale": "250"}),
		b.WriteIIO(0, "dht11@4", "dht11@4", map[string]string{"in_temp_input": "21000", "in_humidityrelative_input": "50000"}),
		b.WriteIIO(1, "mcp3008", "spi0.0", map[string]string{"in_voltage0_raw": "512", "in_voltage_scale": "3.222656250"}),
		b.WriteIIO(2, "scd4x", "1-0062", map[string]string{"in_concentration_co2_raw": "600", "in_concentration_co2_scale": "0.0001"}),
		b.WriteW1("28-00000a1b2c3d", "91 01 4b 46 7f ff 0c 10 70 : crc=70 YES\n91 01 4b 46 7f ff 0c 10 70 t=25062\n"),
		b.WriteThermal(0, "cpu-thermal", 50),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Sensors of kernel drivers are listed with what loads them, and pins of the header with
// what uses them.
func TestPrint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		kernelTree(t, b)
		bus := b.AddBus("i2c-1")
		bus.AddChip("bme280", 0x76)
		bus.AddChip("bh1750", 0x23)
		b.AddMCP3008("spidev0.0")
		b.AddMHZ19("ttyAMA0")
		b.Line("GPIO27").Hold("fieldpost\x1b[2J")
		text := print(t, scan.Scan(t.Context(), b, scan.Options{}))
		want, err := os.ReadFile("testdata/scan.txt")
		if err != nil || text != string(want) {
			t.Errorf("printed:\n%s\nwant (%v):\n%s", text, err, want)
		}
		if strings.ContainsAny(text, "\x1b\x00") {
			t.Error("a control character was printed")
		}
	})
}
