package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal. It returns the end of the chip and the path of the
// port.
func terminal(t *testing.T) (chip *os.File, port string) {
	t.Helper()
	chip, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = chip.Close() }) // some tests close it
	var n int
	err = control(chip, func(fd uintptr) error {
		if err := unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return chip, fmt.Sprintf("/dev/pts/%d", n)
}

// Bytes pass as they are, also those that a terminal would interpret. A short read
// returns how many came.
func TestSerial(t *testing.T) {
	chip, path := terminal(t)
	p, err := openSerial("/dev", SerialConfig{Device: path, Baud: 9600})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if err := p.Write(all); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 256)
	for n := 0; n < len(got); {
		k, err := chip.Read(got[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	if string(got) != string(all) {
		t.Errorf("sent % x", got)
	}
	if _, err := chip.Write(all[:9]); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Read(got[:9], time.Minute); n != 9 || err != nil || string(got[:9]) != string(all[:9]) {
		t.Errorf("% x, %d, %v", got[:9], n, err)
	}
	if _, err := chip.Write(all[:3]); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Read(got[:9], 50*time.Millisecond); n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("3 of 9 bytes: %d, %v", n, err)
	}
	if err := p.Discard(); err != nil {
		t.Errorf("discard: %v", err)
	}
	if err := chip.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Read(got[:9], time.Minute); n != 0 || !errors.Is(err, ErrAbsent) {
		t.Errorf("unplugged: %d, %v", n, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Write(all); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestSerialRefused(t *testing.T) {
	dev := touch(t, "ttyS0")
	for _, c := range []struct {
		c    SerialConfig
		is   error
		text string
	}{
		{SerialConfig{"ttyUSB0", 9600}, ErrAbsent, "raspi-config"},
		{SerialConfig{"/dev/ttyS0", 9600}, unix.ENOTTY, "set ttyS0 to 9600 baud"},
		{SerialConfig{"ttyS0", 9601}, nil, "no port has 9601 baud"},
	} {
		m := &Machine{dev: dev}
		p, err := m.Serial(c.c)
		if p != nil || err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v, want %q", c.c, err, c.text)
		}
	}
	if _, err := os.Stat(filepath.Join(dev, "ttyS0")); err != nil {
		t.Fatal(err)
	}
}
