package sampler

import (
	"errors"
	"io/fs"
	"strings"
	"unicode/utf8"

	"fieldpost/daemon/health"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// readFaults are the faults that a good reading disproves.
var readFaults = health.Codes(health.Reading)

// failure is an error with the fault that it is.
type failure struct {
	code health.Code
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// explain finds the fault that an error of a driver is. It may ask the bus, so
// it belongs on the worker.
func explain(err error, b board.Board, c sensors.Config) error {
	var busy *board.BusyError
	var owned *board.OwnedError
	code := health.ReadFailed
	switch {
	case errors.As(err, &busy):
		code = health.LineBusy
	case errors.As(err, &owned):
		code = health.AddressOwned
	case errors.Is(err, fs.ErrPermission):
		code = health.Denied
	case errors.Is(err, sensors.ErrFault):
		code = health.WrongAnswer
	case errors.Is(err, sensors.ErrSilent):
		code = health.NoAnswer
	case errors.Is(err, sensors.ErrAbsent):
		code = health.Absent
		if bus := c.Place().Bus; bus != "" && hasBus(b, bus) {
			code = health.NoAnswer
		}
	}
	return &failure{code, err}
}

// hasBus tells a chip that does not answer from a bus that is not there.
func hasBus(b board.Board, name string) bool {
	bus, err := b.Bus(name)
	if err != nil {
		return false
	}
	_ = bus.Close() // nothing was done with it
	return true
}

// PlaceOf says by what a sensor is reached. Any goroutine.
func PlaceOf(s sensors.Config) health.Place {
	switch {
	case s.Place().Bus != "":
		return health.OnBus
	case s.Place().Pin != "":
		return health.OnLine
	case s.Place().SPI != "":
		return health.OnSPI
	case s.Place().Port != "":
		return health.OnPort
	case s.Place().Device != "":
		return health.OfKernel
	case s.Chip == "thermal":
		return health.InZone
	}
	return ""
}

// CodeOf gives the fault that an error of [Once] is. Any goroutine.
func CodeOf(err error) health.Code { return codeOf(err) }

// codeOf gives the fault that an error is. What no driver has returned, a
// panic or a missed deadline, is a read that failed.
func codeOf(err error) health.Code {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	return health.ReadFailed
}

// longest is how much of an error goes into a fault's detail, in bytes.
const longest = 240

// detail gives an error's first line, which of a panic is what it was about.
func detail(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	if len(s) <= longest {
		return s
	}
	cut := longest
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
