package sensors

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Serial are the keys of a chip on a serial port.
type Serial struct {
	// Device is the serial port: ttyAMA0, ttyUSB0, or a link to it in /dev, written
	// with /dev/: /dev/serial0.
	Device string `yaml:"device"`
}

// Place returns the port.
func (o Serial) Place() Place { return Place{Port: o.Device} }

// serialRule is the rule of the key of [Serial].
var serialRule = option.Rule{Required: true, Wants: WantsPort, Check: serialName}

// WantsPort is what the key device of a chip on a serial port wants.
const WantsPort = "a serial port such as /dev/serial0"

// isSerialPort reports whether s is tty, letters and a number.
func isSerialPort(s string) bool {
	rest, ok := strings.CutPrefix(s, "tty")
	letters := strings.TrimRight(rest, "0123456789")
	return ok && letters != "" && letters != rest &&
		!strings.ContainsFunc(letters, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
}

// serialName checks a serial port's name. Only one name is allowed for each port.
func serialName(v any) string {
	s := v.(string)
	switch plain, full := strings.CutPrefix(s, "/dev/"); {
	case !full && isSerialPort(s):
		return ""
	case isSerialPort(plain):
		return fmt.Sprintf("want the port's name: %q", plain)
	case full && deviceLink(plain):
		return ""
	}
	return "want the name of a serial port, such as ttyAMA0 or ttyUSB0, or a link to it such as /dev/serial0"
}

// serialWire is a serial port with a chip at its end.
type serialWire struct {
	handle
	port board.Serial
}

// dialSerial opens a serial port and begins the first call.
func dialSerial(b board.Board, chip string, c board.SerialConfig) (*serialWire, error) {
	if c.Device == "" {
		return nil, fmt.Errorf("open %s: %w", chip, errNoPort)
	}
	port, err := b.Serial(c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", chip, err)
	}
	w := &serialWire{handle{chip: chip, where: "on " + c.Device, name: c.Device, device: port}, port}
	w.begin()
	return w, nil
}

var errNoPort = errors.New("device is missing: want a serial port such as /dev/serial0")

// lookSerial does what [Chip].Look does for a chip on a serial port.
func lookSerial(b board.Board, c board.SerialConfig) error {
	if c.Device == "" {
		return errNoPort
	}
	port, err := b.Serial(c)
	if err != nil {
		return err
	}
	return port.Close()
}

// ask drops what was received before, sends a question and returns an answer of n bytes.
// The error wraps [ErrSilent] if nothing comes in time, and [ErrFault] if too little
// comes.
func (w *serialWire) ask(question []byte, n int, within time.Duration) ([]byte, error) {
	answer := make([]byte, n)
	err := w.do(func() error {
		if err := w.port.Discard(); err != nil {
			return err
		}
		if err := w.port.Write(question); err != nil {
			return err
		}
		came, err := w.port.Read(answer, within)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case came == 0:
			return fmt.Errorf("nothing answers on %s within %v: %w", w.name, within, ErrSilent)
		}
		return faultf("only %d of %d bytes came on %s within %v (% x)", came, n, w.name, within, answer[:came])
	})
	return answer, err
}

// say sends a command without waiting for an answer.
func (w *serialWire) say(command []byte) error {
	return w.do(func() error { return w.port.Write(command) })
}
