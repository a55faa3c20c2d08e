//go:build !linux

package board

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// errLinux is the error of other systems.
var errLinux = fmt.Errorf("%w: buses and lines need Linux, this is %s", errors.ErrUnsupported, runtime.GOOS)

// Machine is not implemented on this system.
type Machine struct{ Board }

// Open returns errors.ErrUnsupported, wrapped.
func Open() (*Machine, error) { return nil, errLinux }

// Notes is empty.
func (m *Machine) Notes() []string { return nil }

// Buses is empty.
func (m *Machine) Buses() []string { return nil }

// Chips is empty.
func (m *Machine) Chips() []ChipInfo { return nil }

// Adapters is empty.
func (m *Machine) Adapters() []Adapter { return nil }

// SPIs is empty.
func (m *Machine) SPIs() []string { return nil }

// Serials is empty.
func (m *Machine) Serials() []string { return nil }

// Hold returns errors.ErrUnsupported, wrapped.
func Hold(OutputConfig) (*os.File, error) { return nil, errLinux }

// DrivePWM returns errors.ErrUnsupported, wrapped.
func DrivePWM(PWMConfig) error { return errLinux }

// Adopt returns errors.ErrUnsupported, wrapped.
func Adopt(*os.File, bool) error { return errLinux }
