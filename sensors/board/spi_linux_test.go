package board

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fakeSPI replaces spidev: it returns what it is sent, inverted.
type fakeSPI struct {
	t      *testing.T
	set    map[uint]uint32
	fail   map[uint]error
	closed bool
}

func (f *fakeSPI) value(req uint, _ uintptr) error {
	f.t.Errorf("request 0x%x with a number", req)
	return nil
}

func (f *fakeSPI) pointer(req uint, arg unsafe.Pointer) error {
	before := uintptr(arg)
	growStack(64)
	if uintptr(arg) != before {
		f.t.Error("memory handed to the kernel moved")
	}
	if err := f.fail[req]; err != nil {
		return err
	}
	switch req {
	case reqSPIMode, reqSPIBits:
		f.set[req] = uint32(*(*uint8)(arg))
	case reqSPIHz:
		f.set[req] = *(*uint32)(arg)
	case reqSPIMessage:
		x := (*spiTransfer)(arg)
		w, r := at(&x.tx, x.length), at(&x.rx, x.length)
		for i := range r {
			r[i] = ^w[i]
		}
		f.set[req] = x.hz
	default:
		f.t.Errorf("request 0x%x", req)
	}
	return nil
}

// at returns the memory at an address, as the kernel finds it.
func at(address *uint64, n uint32) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(address)), n)
}

func (f *fakeSPI) Close() error {
	f.closed = true
	return nil
}

// The structure has the layout of the kernel's.
func TestSPITransferLayout(t *testing.T) {
	var x spiTransfer
	for name, got := range map[string]uintptr{
		"size 32": unsafe.Sizeof(x), "rx 8": unsafe.Offsetof(x.rx), "length 16": unsafe.Offsetof(x.length), "hz 20": unsafe.Offsetof(x.hz),
		"delay 24": unsafe.Offsetof(x.delay), "bits 26": unsafe.Offsetof(x.bits), "csChange 27": unsafe.Offsetof(x.csChange), "wordDelay 30": unsafe.Offsetof(x.wordDelay),
	} {
		want := map[string]uintptr{"size 32": 32, "rx 8": 8, "length 16": 16, "hz 20": 20, "delay 24": 24, "bits 26": 26, "csChange 27": 27, "wordDelay 30": 30}[name]
		if got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestSPI(t *testing.T) {
	f := &fakeSPI{t: t, set: map[uint]uint32{}, fail: map[uint]error{}}
	d, err := newSPI("spidev0.1", SPIConfig{Mode: 3, MaxHz: 1_000_000}, f)
	if err != nil {
		t.Fatal(err)
	}
	if f.set[reqSPIMode] != 3 || f.set[reqSPIBits] != 8 || f.set[reqSPIHz] != 1_000_000 || d.String() != "spidev0.1" {
		t.Errorf("set up as %v", f.set)
	}
	r := make([]byte, 3)
	if err := d.Tx([]byte{1, 0x80, 0}, r); err != nil || !bytes.Equal(r, []byte{0xFE, 0x7F, 0xFF}) || f.set[reqSPIMessage] != 1_000_000 {
		t.Errorf("got % x, %v", r, err)
	}
	for _, n := range []int{0, 2, 4} {
		if err := d.Tx([]byte{1, 2, 3}[:min(n, 3)], make([]byte, 3)[:min(n, 3)/2]); err == nil {
			t.Errorf("%d bytes and half as many were taken", n)
		}
	}
	f.fail[reqSPIMessage] = unix.EIO
	if err := d.Tx([]byte{1}, r[:1]); !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "spidev0.1") {
		t.Errorf("a failure: %v", err)
	}
	f.fail[reqSPIMessage] = unix.ESHUTDOWN
	if err := d.Tx([]byte{1}, r[:1]); !errors.Is(err, ErrAbsent) {
		t.Errorf("taken away: %v", err)
	}
	if err := d.Close(); err != nil || !f.closed {
		t.Errorf("close: %v", err)
	}
	if err := d.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("close again: %v", err)
	}
	if err := d.Tx([]byte{1}, r[:1]); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestSPIRefused(t *testing.T) {
	for _, req := range []uint{reqSPIMode, reqSPIBits, reqSPIHz} {
		f := &fakeSPI{t: t, set: map[uint]uint32{}, fail: map[uint]error{req: unix.EINVAL}}
		if _, err := newSPI("spidev0.0", SPIConfig{}, f); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "spidev0.0") {
			t.Errorf("request 0x%x: %v", req, err)
		}
	}
	m := &Machine{dev: t.TempDir()}
	if d, err := m.SPI(SPIConfig{Device: "spidev0.0"}); d != nil || !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "dtparam=spi=on") {
		t.Errorf("no such device: %v", err)
	}
	m.dev = touch(t, "spidev0.0")
	if _, err := m.SPI(SPIConfig{Device: "/dev/spidev0.0"}); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("no device of spidev's: %v", err)
	}
	if err := deviceError("spidev0.0", "/dev/spidev0.0", "spi", "", fs.ErrPermission); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "group spi") {
		t.Errorf("not allowed: %v", err)
	}
}
