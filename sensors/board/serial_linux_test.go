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
		{SerialConfig{Device: "ttyAMA0", Baud: 9600}, ErrAbsent, "raspi-config"},
		{SerialConfig{Device: "ttyUSB0", Baud: 9600}, ErrAbsent, "/dev/serial/by-id"},
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

// usbPorts is a machine with adapters that come and go.
type usbPorts struct {
	t *testing.T
	m *Machine
}

func newUSBPorts(t *testing.T) *usbPorts {
	root := t.TempDir()
	for _, dir := range []string{"dev", "sys/class/tty"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &usbPorts{t, &Machine{dev: filepath.Join(root, "dev"), root: root}}
}

// plug makes a port of a terminal, at a USB interface. number is its number there, or "".
func (u *usbPorts) plug(name, terminal, place, number string) {
	u.t.Helper()
	device := filepath.Join(u.m.root, "sys/devices/usb1", place)
	if number != "" {
		device = filepath.Join(device, name)
	}
	class := filepath.Join(u.m.root, "sys/class/tty", name)
	err := errors.Join(os.MkdirAll(device, 0o755), os.MkdirAll(class, 0o755), os.Symlink(device, filepath.Join(class, "device")),
		os.Symlink(terminal, filepath.Join(u.m.dev, name)))
	if number != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(device, "port_number"), []byte(number+"\n"), 0o644))
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *usbPorts) unplug(names ...string) {
	u.t.Helper()
	for _, name := range names {
		if err := errors.Join(os.RemoveAll(filepath.Join(u.m.root, "sys/class/tty", name)), os.Remove(filepath.Join(u.m.dev, name))); err != nil {
			u.t.Fatal(err)
		}
	}
}

// leadsTo checks which chip is at the other end of a port; nil is that there is no such port.
func (u *usbPorts) leadsTo(name string, chip *os.File) {
	u.t.Helper()
	p, err := u.m.Serial(SerialConfig{Device: name, Baud: 9600})
	if chip == nil {
		if !errors.Is(err, ErrAbsent) {
			u.t.Fatalf("%s: %v, want %v", name, err, ErrAbsent)
		}
		return
	}
	if err != nil {
		u.t.Fatal(err)
	}
	defer p.Close()
	if _, err := chip.Write([]byte{7}); err != nil {
		u.t.Fatal(err)
	}
	if n, err := p.Read(make([]byte, 1), time.Second); n != 1 || err != nil {
		u.t.Errorf("%s leads to another chip: %v", name, err)
	}
}

// An adapter that was reset while its port was open has another number, for as long as nobody
// unplugs it again. The port is found all the same, and no other adapter's is taken for it.
func TestSerialRenumbered(t *testing.T) {
	u := newUSBPorts(t)
	a, pathA := terminal(t)
	b, pathB := terminal(t)
	u.leadsTo("ttyUSB0", nil)
	u.plug("ttyUSB0", pathA, "1-1.1:1.0", "0")
	u.plug("ttyUSB1", pathB, "1-1.2:1.0", "0")
	u.leadsTo("ttyUSB0", a)
	u.leadsTo("ttyUSB1", b)
	u.unplug("ttyUSB0")
	u.leadsTo("ttyUSB0", nil)
	u.plug("ttyUSB2", pathA, "1-1.1:1.0", "0")
	u.leadsTo("ttyUSB0", a)
	u.leadsTo("ttyUSB1", b)
	u.unplug("ttyUSB2", "ttyUSB1") // the hub was reset, and each got the other's number
	u.plug("ttyUSB0", pathB, "1-1.2:1.0", "0")
	u.plug("ttyUSB1", pathA, "1-1.1:1.0", "0")
	u.leadsTo("ttyUSB0", a)
	u.leadsTo("ttyUSB1", b)
	u.unplug("ttyUSB0", "ttyUSB1") // at another socket
	u.plug("ttyUSB0", pathA, "1-1.3:1.0", "0")
	u.leadsTo("ttyUSB0", a)
	u.leadsTo("ttyUSB1", nil)
}

// Of an adapter with several ports each is a place of its own. ttyACM has no port number.
func TestSerialRenumberedPorts(t *testing.T) {
	u := newUSBPorts(t)
	a, pathA := terminal(t)
	b, pathB := terminal(t)
	c, pathC := terminal(t)
	u.plug("ttyUSB0", pathA, "1-1.1:1.0", "0")
	u.plug("ttyUSB1", pathB, "1-1.1:1.0", "1")
	u.plug("ttyACM0", pathC, "1-1.4:1.0", "")
	u.leadsTo("ttyUSB0", a)
	u.leadsTo("ttyUSB1", b)
	u.leadsTo("ttyACM0", c)
	u.unplug("ttyUSB0", "ttyUSB1", "ttyACM0")
	u.plug("ttyUSB1", pathA, "1-1.1:1.0", "0")
	u.plug("ttyUSB2", pathB, "1-1.1:1.0", "1")
	u.plug("ttyACM1", pathC, "1-1.4:1.0", "")
	u.leadsTo("ttyUSB0", a)
	u.leadsTo("ttyUSB1", b)
	u.leadsTo("ttyACM0", c)
}

// A link that a user has chosen means what udev says, not a socket.
func TestSerialLinkIsFollowed(t *testing.T) {
	u := newUSBPorts(t)
	_, pathA := terminal(t)
	b, pathB := terminal(t)
	u.plug("ttyUSB0", pathA, "1-1.1:1.0", "0")
	u.plug("ttyUSB1", pathB, "1-1.2:1.0", "0")
	link := filepath.Join(u.m.dev, "meter")
	if err := os.Symlink(filepath.Join(u.m.dev, "ttyUSB0"), link); err != nil {
		t.Fatal(err)
	}
	if p, err := u.m.Serial(SerialConfig{Device: "/dev/meter", Baud: 9600}); err != nil || p.Close() != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(link), os.Symlink(filepath.Join(u.m.dev, "ttyUSB1"), link)); err != nil {
		t.Fatal(err)
	}
	u.leadsTo("/dev/meter", b)
}
