package sensors

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"

	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"
)

// testWire returns a wire on a playback of reads of one byte.
func testWire(reads int) *wire {
	p := &i2ctest.Playback{DontPanic: true}
	for range reads {
		p.Ops = append(p.Ops, i2ctest.IO{Addr: 0x48, W: []byte{1}, R: []byte{7}})
	}
	return newWire("tmp102", p, "i2c-1", 0x48)
}

func TestBudget(t *testing.T) {
	w := testWire(2 * budget)
	for i := range budget {
		if _, err := w.read(1, 1); err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
	}
	_, err := w.read(1, 1)
	flat := fmt.Errorf("driver: %v", err) // as periph's drivers do
	if got := w.wrap("read", flat); !errors.Is(got, ErrFault) || !strings.Contains(got.Error(), "no end after 100") {
		t.Errorf("budget spent: %v", got)
	}
	w.begin()
	if _, err := w.read(1, 1); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestWrap(t *testing.T) {
	w := testWire(1)
	if err := w.wrap("read", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	w.last = fmt.Errorf("bus: %w", syscall.EIO)
	if err := w.wrap("read", errors.New("flattened")); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrFault) {
		t.Errorf("a bus's error became %v", err)
	}
	w.begin()
	objection := errors.New("odd")
	err := w.wrap("open", objection)
	if !errors.Is(err, ErrFault) || !errors.Is(err, objection) {
		t.Errorf("a driver's objection became %v", err)
	}
	if want := "open tmp102 at 0x48 on i2c-1: answered wrongly: odd"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if err := w.wrap("open", faultf("id %#x", 1)); strings.Count(err.Error(), ErrFault.Error()) != 1 {
		t.Errorf("a fault is said twice: %v", err)
	}
}

// periph's drivers cannot set the speed of a wire.
func TestWireIsABus(t *testing.T) {
	w := testWire(0)
	if err := w.SetSpeed(physic.MegaHertz); err == nil {
		t.Error("a driver may set the bus's speed")
	}
	if w.String() != "i2c-1" {
		t.Errorf("the wire is %q", w)
	}
}

func TestWireClosed(t *testing.T) {
	w := testWire(0)
	if err := w.close(); err != nil || !w.closed() {
		t.Errorf("close: %v", err)
	}
	if err := w.close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if err := w.Tx(0x48, []byte{0}, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("transaction after close: %v", err)
	}
	w = testWire(1) // closing the playback before its end is an error
	if err := w.close(); err == nil {
		t.Error("the bus's error on close is swallowed")
	}
}

func TestAddressList(t *testing.T) {
	for _, c := range []struct {
		addresses []uint16
		want      string
	}{
		{nil, ""}, {[]uint16{0x76}, "0x76"}, {[]uint16{0x77, 0x76}, "0x76 or 0x77"},
		{tmp102Addresses, "0x48 to 0x4b"}, {[]uint16{0x48, 0x49, 0x05, 0x4B}, "0x05, 0x48, 0x49 or 0x4b"},
		{pct2075Addresses, "0x28 to 0x2f, 0x35 to 0x37, 0x48 to 0x4f or 0x70 to 0x77"},
	} {
		if got := AddressList(c.addresses); got != c.want {
			t.Errorf("%#x: %q, want %q", c.addresses, got, c.want)
		}
	}
	if len(pct2075Addresses) != 27 || pct2075Addresses[0] != 0x37 || len(lm75Relatives) != 27 || lm75Relatives[0] != 0x48 {
		t.Errorf("addresses %#x and %#x", pct2075Addresses, lm75Relatives)
	}
}

func TestUniform(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want bool
	}{
		{nil, false}, {[]byte{0}, true}, {[]byte{0, 0, 0}, true}, {[]byte{0xFF, 0xFF}, true},
		{[]byte{0, 0xFF}, false}, {[]byte{0x55, 0x55}, false}, {[]byte{0, 0, 1}, false},
	} {
		if got := uniform(c.b); got != c.want {
			t.Errorf("uniform(% x) = %v", c.b, got)
		}
	}
}

func TestValues(t *testing.T) {
	q := []Quantity{{Name: "temperature", Unit: "Cel", Min: -40, Max: 85}}
	for _, v := range []float64{-40, 0, 85} {
		if f, err := values(q, v); err != nil || f[0].Name != "temperature" || f[0].Value != v {
			t.Errorf("%g: %v, %v", v, f, err)
		}
	}
	for _, v := range []float64{-40.01, 85.01, math.Inf(1), math.NaN()} {
		if f, err := values(q, v); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("%g: %v, %v", v, f, err)
		}
	}
}

func TestCheckFields(t *testing.T) {
	quantities := []Quantity{{Name: "temperature", Unit: "Cel", Min: -40, Max: 85}}
	for _, tt := range []struct {
		value any
		want  string // "" is possible
	}{
		{20.5, ""}, {-40.0, ""}, {85.0, ""}, {int64(85), ""}, {true, ""}, {"text", ""},
		{-40.01, "answered wrongly: temperature of -40.01 °C is outside -40 to 85"},
		{85.01, "answered wrongly: temperature of 85.01 °C is outside -40 to 85"},
		{int64(-41), "answered wrongly: temperature of -41 °C is outside -40 to 85"},
		{math.NaN(), "answered wrongly: temperature is NaN"},
		{math.Inf(-1), "answered wrongly: temperature is -Inf"},
		{float32(1), "answered wrongly: temperature is a float32"},
		{nil, "answered wrongly: temperature is a <nil>"},
	} {
		err := CheckFields(quantities, []Field{{Name: "temperature", Value: tt.value}})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != tt.want || !errors.Is(err, ErrFault)) {
			t.Errorf("%v: got %v, want %q", tt.value, err, tt.want)
		}
	}
	if err := CheckFields(quantities, nil); !errors.Is(err, ErrFault) {
		t.Errorf("no value at all: got %v", err)
	}
	if err := CheckFields(quantities, []Field{{Name: "other", Value: math.Inf(1)}}); !errors.Is(err, ErrFault) {
		t.Errorf("infinity of another name: got %v", err)
	}
}
