package sensors

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

func openADC(t *testing.T, b board.Board, o MCP3008) Sensor {
	t.Helper()
	s, err := mcp3008.Open(b, Config{Chip: "mcp3008", Options: o})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The code is 1024 * VIN / VREF, equation 4-2.
func TestMCP3008Reads(t *testing.T) {
	b := sim.New()
	adc := b.AddMCP3008("spidev0.0")
	for n, code := range []uint16{0, 1, 512, 1023, 341, 682, 256, 7} {
		adc.SetCode(n, code)
	}
	for _, c := range []struct {
		vref     float64
		channels Channels
		want     string
	}{
		{3.3, 0xFF, "[{voltage_0 0} {voltage_1 0.0032} {voltage_2 1.65} {voltage_3 3.2968} {voltage_4 1.0989} {voltage_5 2.1979} {voltage_6 0.825} {voltage_7 0.0226}]"},
		{4.096, 1<<3 | 1<<7, "[{voltage_3 4.092} {voltage_7 0.028}]"},
		{5, 1, "[{voltage_0 0}]"},
	} {
		s := openADC(t, b, MCP3008{SPI: SPI{"spidev0.0"}, VRef: c.vref, Channels: c.channels})
		if f, err := s.Sense(); err != nil || fmt.Sprint(f) != c.want {
			t.Errorf("%+v: %v, %v", c, f, err)
		}
		if mcp3008.Symbol("voltage_3") != "V" {
			t.Error("no unit")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// recordedSPI is a device that expects and returns recorded bytes: those of figure 6-1
// and two more.
type recordedSPI struct {
	board.Board
	t       *testing.T
	out, in []byte
	c       board.SPIConfig
}

func (r *recordedSPI) SPI(c board.SPIConfig) (board.SPI, error) {
	r.c = c
	return r, nil
}

func (r *recordedSPI) Tx(w, in []byte) error {
	if !bytes.Equal(w, r.out) {
		r.t.Errorf("sent % x, want % x", w, r.out)
	}
	copy(in, r.in)
	return nil
}

func (r *recordedSPI) String() string { return "spidev0.0" }
func (r *recordedSPI) Close() error   { return nil }

func TestMCP3008Traffic(t *testing.T) {
	// 0x2A5 = 10 1010 0101, and backwards from its second bit 0 1001 0101.
	r := &recordedSPI{t: t, out: []byte{1, 0xD0, 0, 0, 0}, in: []byte{0xFF, 0xFA, 0xA5, 0x4A, 0x80}}
	s := openADC(t, r, MCP3008{SPI: SPI{"spidev0.0"}, VRef: 1.024, Channels: 1 << 5})
	if f, err := s.Sense(); err != nil || f[0].Value != 0.677 {
		t.Errorf("%v, %v, want 0.677", f, err)
	}
	if r.c != (board.SPIConfig{Device: "spidev0.0", Mode: 0, MaxHz: 1_000_000}) {
		t.Errorf("opened as %+v", r.c)
	}
}

func TestMCP3008Faults(t *testing.T) {
	for _, c := range []struct {
		fault sim.Fault
		want  string
	}{{sim.Ones, "null bit"}, {sim.Zeros, "all eight inputs read 0"}, {sim.EIO, "input/output error"}} {
		b := sim.New()
		adc := b.AddMCP3008("spidev0.0")
		o := MCP3008{SPI: SPI{"spidev0.0"}, VRef: 3.3, Channels: 1}
		s := openADC(t, b, o)
		adc.Fault(c.fault)
		f, err := s.Sense()
		if f != nil || err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrFault) != (c.fault != sim.EIO) {
			t.Errorf("%v: %v, %v, want %q", c.fault, f, err, c.want)
		}
		if s, err := mcp3008.Open(b, Config{Chip: "mcp3008", Options: o}); err == nil || s != nil {
			t.Errorf("%v: was opened", c.fault)
		}
		adc.Fault(sim.Healthy)
		adc.PowerCycle()
		if f, err := s.Sense(); err != nil || f[0].Value != 1.65 {
			t.Errorf("well again: %v, %v", f, err)
		}
	}
	b := sim.New()
	b.AddMCP3008("spidev0.0").SetCode(0, 0)
	if f, err := openADC(t, b, MCP3008{SPI: SPI{"spidev0.0"}, VRef: 3.3, Channels: 1}).Sense(); err != nil || f[0].Value != 0.0 {
		t.Errorf("0 V, and others have more: %v, %v", f, err)
	}
}

func TestChannels(t *testing.T) {
	for text, want := range map[string]Channels{"0": 1, "7": 128, "0-7": 255, "0,2, 5": 37, "1-2,2-3": 14} {
		var c Channels
		if err := c.UnmarshalText([]byte(text)); err != nil || c != want {
			t.Errorf("%q: %08b, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "8", "-1", "3-1", "0-", "a", "0,", "all"} {
		if err := new(Channels).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestSPINames(t *testing.T) {
	for s, want := range map[string]string{
		"spidev0.0": "", "spidev10.3": "", "/dev/spi-adc": "", "/dev/spidev0.0": `want the device's name: "spidev0.0"`,
		"spi0.0": "want the name", "": "want the name", "/dev/": "want the name", "/dev/../x": "want the name", "i2c-1": "want the name", "spidev0": "want the name",
	} {
		if got := spiName(s); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// A value is accepted only if its repetition is the same.
func FuzzMCP3008(f *testing.F) {
	f.Add([]byte{0, 2, 0xA5, 0x4A, 0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) != 5 {
			return
		}
		code, err := mcpCode(in, 10)
		if err != nil && !errors.Is(err, ErrFault) || err == nil && (code > 1023 || in[1]&4 != 0 || in[4]&0x7F != 0) {
			t.Errorf("% x: %d, %v", in, code, err)
		}
	})
}

// DS21298E, figure 6-1: 0xABC = 1010 1011 1100, and backwards from its second bit 011
// 1101 0101.
func TestMCP3208(t *testing.T) {
	r := &recordedSPI{t: t, out: []byte{0x07, 0x40, 0, 0, 0}, in: []byte{0xFF, 0xEA, 0xBC, 0x7A, 0xA0}}
	o := MCP3008{SPI: SPI{"spidev0.0"}, VRef: 4.096, Channels: 1 << 5}
	s, err := mcp3208.Open(r, Config{Chip: "mcp3208", Options: o})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.Sense(); err != nil || f[0].Value != 2.748 {
		t.Errorf("%v, %v, want 2.748", f, err)
	}
	b := sim.New()
	adc := b.AddMCP3208("spidev0.0")
	for _, code := range []uint16{1, 4095, 2048, 0xABC} {
		adc.SetCode(5, code)
		if s, err = mcp3208.Open(b, Config{Chip: "mcp3208", Options: o}); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); err != nil || f[0].Value != float64(code)/1000 {
			t.Errorf("%#x: %v, %v", code, f, err)
		}
	}
	for _, fault := range []sim.Fault{sim.Ones, sim.Zeros} {
		adc.Fault(fault)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("%v: %v, %v", fault, f, err)
		}
	}
	adc.Fault(sim.Healthy)
	b.AddMCP3008("spidev0.0")
	if s, err := mcp3208.Open(b, Config{Chip: "mcp3208", Options: o}); !errors.Is(err, ErrFault) || s != nil {
		t.Errorf("an MCP3008 was taken for an MCP3208: %v", err)
	}
}
