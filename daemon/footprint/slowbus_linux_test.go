package footprint

import (
	"runtime"
	"time"

	"fieldpost/sensors/board"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
)

// byteTime100kHz is how long a byte takes on I2C in standard mode: eight bits and the
// acknowledgement.
const byteTime100kHz = 90 * time.Microsecond

// slowBoard is a board whose I2C buses take their time, as real ones do: the thread sleeps in
// the kernel for a byte's time times the bytes of a transaction, the address included.
type slowBoard struct {
	board.Board
	byteTime time.Duration
}

func (b slowBoard) Bus(name string) (i2c.BusCloser, error) {
	bus, err := b.Board.Bus(name)
	return slowBus{bus, b.byteTime}, err
}

type slowBus struct {
	i2c.BusCloser
	byteTime time.Duration
}

func (b slowBus) Tx(addr uint16, w, r []byte) error {
	if b.byteTime == 0 {
		return b.BusCloser.Tx(addr, w, r)
	}
	bytes := 1 + len(w) + len(r)
	if len(w) > 0 && len(r) > 0 {
		bytes++ // the address again
	}
	long := unix.NsecToTimespec(int64(bytes) * int64(b.byteTime))
	runtime.LockOSThread() // a bus knows no timer slack
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 1, 0)
	_ = unix.Nanosleep(&long, nil)
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 0, 0) // the process's again
	runtime.UnlockOSThread()
	return b.BusCloser.Tx(addr, w, r)
}
