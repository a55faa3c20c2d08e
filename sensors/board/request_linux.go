package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// inputRequest makes the kernel's request for an input. Without edges the kernel needs no
// interrupt.
func inputRequest(offset int, c InputConfig, edges bool) (*uapi.LineRequest, error) {
	flags := uapi.LineFlagV2Input
	if edges {
		flags |= uapi.LineFlagV2EdgeBoth
	}
	if c.ActiveLow {
		flags |= uapi.LineFlagV2ActiveLow
	}
	switch c.Pull {
	case PullAsIs:
	case PullNone:
		flags |= uapi.LineFlagV2BiasDisabled
	case PullUp:
		flags |= uapi.LineFlagV2BiasPullUp
	case PullDown:
		flags |= uapi.LineFlagV2BiasPullDown
	default:
		return nil, fmt.Errorf("pull %q: want up, down or none", c.Pull)
	}
	r := newRequest(offset, c.Consumer)
	r.Config.Flags = flags
	if edges {
		r.EventBufferSize = kernelQueue
	}
	if c.Debounce < 0 || c.Debounce > MaxDebounce {
		return nil, fmt.Errorf("debounce %v: want 0 to %v", c.Debounce, MaxDebounce)
	}
	if c.Debounce > 0 {
		period := max(c.Debounce, time.Microsecond)
		r.Config.AddAttribute(uapi.LineConfigAttribute{Attr: uapi.DebouncePeriod(period).Encode(), Mask: 1})
	}
	return r, nil
}

// outputRequest makes the kernel's request for an output, which contains the level.
func outputRequest(offset int, c OutputConfig) (*uapi.LineRequest, error) {
	flags := uapi.LineFlagV2Output
	if c.ActiveLow {
		flags |= uapi.LineFlagV2ActiveLow
	}
	switch c.Drive {
	case "", PushPull:
	case OpenDrain:
		flags |= uapi.LineFlagV2OpenDrain
	case OpenSource:
		flags |= uapi.LineFlagV2OpenSource
	default:
		return nil, fmt.Errorf("drive %q: want push-pull, open-drain or open-source", c.Drive)
	}
	r := newRequest(offset, c.Consumer)
	r.Config.Flags = flags
	level := uapi.OutputValues(values(c.Active).Bits)
	r.Config.AddAttribute(uapi.LineConfigAttribute{Attr: level.Encode(), Mask: 1})
	return r, nil
}

// asIsRequest makes the kernel's request for a line that must stay as it is. Without a
// direction the kernel changes neither direction nor level.
func asIsRequest(offset int, c OutputConfig) *uapi.LineRequest {
	r := newRequest(offset, c.Consumer)
	if c.ActiveLow {
		r.Config.Flags |= uapi.LineFlagV2ActiveLow
	}
	return r
}

func newRequest(offset int, consumer string) *uapi.LineRequest {
	if consumer == "" {
		consumer = Consumer
	}
	r := &uapi.LineRequest{Lines: 1}
	r.Offsets[0] = uint32(offset)
	copy(r.Consumer[:len(r.Consumer)-1], consumer)
	return r
}

// values returns one line's level in the kernel's form.
func values(active bool) uapi.LineValues {
	v := uapi.LineValues{Mask: 1}
	if active {
		v.Bits = 1
	}
	return v
}

// request requests a line and returns its handle. A read of it waits in the runtime's
// poller, and ends when the file is closed.
func (m *Machine) request(id LineID, r *uapi.LineRequest) (*os.File, error) {
	if err := m.requestLine(id, r); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(int(r.Fd), true); err != nil {
		return nil, errors.Join(fmt.Errorf("request line %s: %w", id, err), unix.Close(int(r.Fd)))
	}
	return os.NewFile(uintptr(r.Fd), id.String()), nil
}

// requestQuiet requests a line and returns its handle. The runtime's poller does not know
// the handle, so events do not wake up the process. A system call that reads it does not
// wait.
func (m *Machine) requestQuiet(id LineID, r *uapi.LineRequest) (*os.File, error) {
	if err := m.requestLine(id, r); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(r.Fd), id.String()) // the poller takes only handles that do not block
	if err := control(f, func(fd uintptr) error { return unix.SetNonblock(int(fd), true) }); err != nil {
		return nil, errors.Join(fmt.Errorf("request line %s: %w", id, err), f.Close())
	}
	return f, nil
}

// requestLine has the kernel request a line. The handle is in r, and blocks.
func (m *Machine) requestLine(id LineID, r *uapi.LineRequest) error {
	path := filepath.Join(m.dev, id.Chip)
	chip, err := m.kernel.open(path)
	if err != nil {
		return chipError(path, err)
	}
	defer chip.Close()
	if err := m.kernel.request(chip, r); err != nil {
		return m.requestError(id, chip, r, err)
	}
	return nil
}

// requestError says why the kernel refused a line.
func (m *Machine) requestError(id LineID, chip *os.File, r *uapi.LineRequest, err error) error {
	edges := r.Config.Flags&uapi.LineFlagV2EdgeMask != 0
	switch {
	case errors.Is(err, unix.EBUSY):
		busy := &BusyError{Line: id}
		if info, err := m.kernel.info(chip, id.Offset); err == nil {
			busy.Holder = uapi.BytesToString(info.Consumer[:])
		}
		return busy
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("request line %s: %w: its chip was unplugged (%w)", id, ErrAbsent, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("request line %s: the kernel keeps it for itself: %w", id, err)
	case edges && (errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)):
		return fmt.Errorf("request line %s: its chip may have no interrupt for it, so that it cannot report changes: %w", id, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("request line %s: its chip does not offer the direction, drive or pull asked for: %w", id, err)
	}
	return lineError("request", id, err)
}
