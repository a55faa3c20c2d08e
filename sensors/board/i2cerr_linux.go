package board

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// unableError says that an adapter cannot make a transaction.
type unableError struct{ w, r int }

func (e *unableError) Error() string {
	return fmt.Sprintf("it does SMBus only, and no SMBus call writes %d and reads %d bytes on it", e.w, e.r)
}

// slaveError is an error of I2C_SLAVE.
type slaveError struct{ err error }

func (e *slaveError) Error() string { return e.err.Error() }
func (e *slaveError) Unwrap() error { return e.err }

// explain wraps the errno of a transaction in an error that says what it means. The
// meanings are those of the kernel's Documentation/i2c/fault-codes.rst and of its
// drivers.
func (b *i2cBus) explain(addr uint16, err error) error {
	if err == nil {
		return nil
	}
	var slave *slaveError
	switch {
	case errors.As(err, &slave) && errors.Is(err, unix.EBUSY):
		return &OwnedError{Bus: b.name, Address: addr, Driver: KernelDriver(b.root, b.name, addr)}
	case errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("no acknowledge from 0x%02x on %s: %w (%w)", addr, b.name, ErrAbsent, err)
	case errors.Is(err, unix.ETIMEDOUT):
		return fmt.Errorf("bus %s is stuck, or 0x%02x holds its clock: %w", b.name, addr, err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("arbitration lost on %s, something else drives the bus: %w", b.name, err)
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("transaction with 0x%02x on %s broke off (clock stretched, or a loose wire): %w", addr, b.name, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("bus %s cannot make this transaction with 0x%02x: %w", b.name, addr, err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("bus %s: %w: its adapter was unplugged (%w)", b.name, ErrAbsent, err)
	}
	return fmt.Errorf("transaction with 0x%02x on %s: %w", addr, b.name, err)
}
