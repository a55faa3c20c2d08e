package board

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests of spidev (linux/spi/spidev.h), with the numbers of most architectures.
const (
	reqSPIMode    = 0x40016b01 // SPI_IOC_WR_MODE
	reqSPIBits    = 0x40016b03 // SPI_IOC_WR_BITS_PER_WORD
	reqSPIHz      = 0x40046b04 // SPI_IOC_WR_MAX_SPEED_HZ
	reqSPIMessage = 0x40206b00 // SPI_IOC_MESSAGE(1)

	maxSPI = 4096 // spidev's buffer, unless its parameter bufsiz says otherwise
)

// spiTransfer is struct spi_ioc_transfer.
type spiTransfer struct {
	tx, rx                         uint64 // addresses
	length, hz                     uint32
	delay                          uint16
	bits, csChange, txBits, rxBits uint8
	wordDelay, pad                 uint8
}

// spiMemory is what the kernel reads and writes; see i2cMemory.
type spiMemory struct {
	transfer spiTransfer
	mode     uint8
	bits     uint8
	hz       uint32
	w, r     []byte
}

// spiDevice is an open spidev device.
type spiDevice struct {
	name string // "spidev0.0"

	mu   sync.Mutex
	file i2cFile // nil once closed
	mem  *spiMemory
}

// SPI opens an SPI device.
func (m *Machine) SPI(c SPIConfig) (SPI, error) {
	d, err := openSPI(m.dev, c)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openSPI(dev string, c SPIConfig) (*spiDevice, error) {
	name := strings.TrimPrefix(c.Device, "/dev/")
	path := filepath.Join(dev, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, deviceError(name, path, "spi", "on a Raspberry Pi enable SPI with dtparam=spi=on in config.txt", err)
	}
	d, err := newSPI(name, c, i2cDevice{f})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// deviceError says why a device file cannot be opened and what to do about it.
func deviceError(name, path, group, absent string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		err = named.Err // the message has the path already
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open %s: %s: %w; %s", visible(name), visible(path), fs.ErrPermission, groupHint(path, group))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("open %s: %s is %w (%w); %s", visible(name), visible(path), ErrAbsent, err, absent)
	}
	return fmt.Errorf("open %s: %s: %w", visible(name), visible(path), err)
}

// newSPI sets mode, word size and clock of the device.
func newSPI(name string, c SPIConfig, f i2cFile) (*spiDevice, error) {
	d := &spiDevice{name: name, file: f, mem: &spiMemory{mode: c.Mode, bits: 8, hz: c.MaxHz}}
	for _, set := range []struct {
		what string
		req  uint
		arg  unsafe.Pointer
	}{
		{"mode", reqSPIMode, unsafe.Pointer(&d.mem.mode)},
		{"word of 8 bits", reqSPIBits, unsafe.Pointer(&d.mem.bits)},
		{"clock", reqSPIHz, unsafe.Pointer(&d.mem.hz)},
	} {
		var pin runtime.Pinner
		pin.Pin(d.mem)
		err := f.pointer(set.req, set.arg)
		pin.Unpin()
		if err != nil {
			return nil, fmt.Errorf("set the %s of %s: %w", set.what, name, err)
		}
	}
	return d, nil
}

// String returns the device's name.
func (d *spiDevice) String() string { return d.name }

// Tx is one transfer.
func (d *spiDevice) Tx(w, r []byte) error {
	if len(w) == 0 || len(w) != len(r) || len(w) > maxSPI {
		return fmt.Errorf("transfer on %s: %d bytes out and %d in, want as many, 1 to %d", d.name, len(w), len(r), maxSPI)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return fmt.Errorf("transfer on %s: %w", d.name, os.ErrClosed)
	}
	m := d.mem
	m.w = append(m.w[:0], w...)
	m.r = append(m.r[:0], r...)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(m)
	pin.Pin(&m.w[0])
	pin.Pin(&m.r[0])
	m.transfer = spiTransfer{
		tx: uint64(uintptr(unsafe.Pointer(&m.w[0]))), rx: uint64(uintptr(unsafe.Pointer(&m.r[0]))),
		length: uint32(len(w)), hz: m.hz, bits: 8,
	}
	err := d.file.pointer(reqSPIMessage, unsafe.Pointer(&m.transfer))
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ESHUTDOWN): // its driver was removed
		return fmt.Errorf("transfer on %s: %w (%w)", d.name, ErrAbsent, err)
	case err != nil:
		return fmt.Errorf("transfer on %s: %w", d.name, err)
	}
	copy(r, m.r)
	return nil
}

// Close closes the device.
func (d *spiDevice) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return fmt.Errorf("close %s: %w", d.name, os.ErrClosed)
	}
	f := d.file
	d.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", d.name, err)
	}
	return nil
}
