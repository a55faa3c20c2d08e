package board

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

// The speeds and parities that a configuration may name are those that the kernel gets.
func TestSerialSettings(t *testing.T) {
	for _, b := range Bauds {
		if bauds[b] == 0 {
			t.Errorf("no flag for %d baud", b)
		}
	}
	if len(bauds) != len(Bauds) {
		t.Errorf("%d speeds and %d flags", len(Bauds), len(bauds))
	}
	for p, want := range map[Parity]uint32{"": 0, ParityNone: 0, ParityEven: unix.PARENB, ParityOdd: unix.PARENB | unix.PARODD} {
		if got, ok := parities[p]; !ok || got != want {
			t.Errorf("parity %q: %#x, want %#x", p, got, want)
		}
	}
}

// One port may be open twice, as for two Modbus units: each handle gets the answers to its own
// questions, also after the other was closed.
func TestSerialShared(t *testing.T) {
	chip, path := terminal(t)
	var ports [2]*serialPort
	for i := range ports {
		p, err := openSerial("/dev", SerialConfig{Device: path, Baud: 9600})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ports[i] = p
	}
	for round := range 4 {
		p := ports[round%2]
		if round == 3 {
			if err := ports[0].Close(); err != nil {
				t.Fatal(err)
			}
		}
		question, answer := []byte{byte(round), 1, 2}, []byte{byte(round), 3}
		if err := p.Write(question); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(chip, got); err != nil || !bytes.Equal(got, question) {
			t.Fatalf("% x, %v", got, err)
		}
		if _, err := chip.Write(answer); err != nil {
			t.Fatal(err)
		}
		got = make([]byte, 2)
		if n, err := p.Read(got, time.Minute); n != 2 || err != nil || !bytes.Equal(got, answer) {
			t.Fatalf("round %d: % x, %v", round, got, err)
		}
	}
}

func TestSerialRefused(t *testing.T) {
	dev := touch(t, "ttyS0")
	for _, c := range []struct {
		c    SerialConfig
		is   error
		text string
	}{
		{SerialConfig{Device: "ttyUSB0", Baud: 9600}, ErrAbsent, "raspi-config"},
		{SerialConfig{Device: "/dev/ttyS0", Baud: 9600, Parity: ParityOdd}, unix.ENOTTY, "set ttyS0 to 9600 baud"},
		{SerialConfig{Device: "ttyS0", Baud: 9601}, nil, "no port has 9601 baud"},
		{SerialConfig{Device: "ttyS0", Baud: 9600, Parity: "mark"}, nil, `parity "mark"`},
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
