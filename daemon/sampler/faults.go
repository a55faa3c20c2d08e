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

// readFaults are the faults that a good reading clears.
var readFaults = health.Codes(health.Reading)

// failure is an error with its fault.
type failure struct {
	code health.Code
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// explain adds the fault to an error of a driver. It may use the bus, so only the bus worker
// may call it.
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

// hasBus reports whether a bus exists. If it does, an absent chip on it is one that does not
// answer.
func hasBus(b board.Board, name string) bool {
	bus, err := b.Bus(name)
	if err != nil {
		return false
	}
	_ = bus.Close() // it was not used
	return true
}

// PlaceOf returns the place of a sensor. Any goroutine.
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

// CodeOf returns the fault for an error of [Once]. Any goroutine.
func CodeOf(err error) health.Code { return codeOf(err) }

// codeOf returns the fault for an error. A panic or a missed deadline, which no driver
// returned, is a failed read.
func codeOf(err error) health.Code {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	return health.ReadFailed
}

// maxDetail bounds the part of an error that goes into a fault's detail, in bytes.
const maxDetail = 240

// detail returns an error's first line. The other lines of a panic are its stack.
func detail(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	if len(s) <= maxDetail {
		return s
	}
	cut := maxDetail
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
