package sensors

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Ultrasonic rangers with a trigger and an echo: HC-SR04, JSN-SR04T.
//
// Source: ElecFreaks, HC-SR04 user guide (2011): a trigger pulse of at least 10 us; eight
// cycles of 40 kHz; the echo line is high for the time that the sound was on its way; range 2
// cm to 4 m; 60 ms between measurements. Speed of sound in air: 331.3 m/s + 0.606 m/s per °C.
//
// The kernel stamps both edges of the echo in its interrupt handler, so the time does not
// depend on when they are read. 20 us more or less are 3 mm.
//
// The trigger is an output that only this driver uses. It is low from the moment in which it
// is requested, is high for the pulse alone, and low again before it is released. If the
// process is killed during a pulse, the kernel may leave it high; that measures nothing, and
// the next request drives it low.

// Ultrasonic are the keys of an ultrasonic ranger.
type Ultrasonic struct {
	// Trigger is the output line that starts a measurement.
	Trigger string `yaml:"trigger"`
	// Echo is the input line that is high while the sound is on its way.
	Echo string `yaml:"echo"`
	// Air is the temperature of the air in degrees Celsius.
	Air float64 `yaml:"air"`
}

// Place returns the line of the echo.
func (o Ultrasonic) Place() Place { return Place{Pin: o.Echo} }

// Lines returns both lines.
func (o Ultrasonic) Lines() []UsedLine {
	return []UsedLine{{Key: "trigger", Line: o.Trigger}, {Key: "echo", Line: o.Echo}}
}

const (
	triggerPulse = 10 * time.Microsecond  // at least
	echoWait     = 45 * time.Millisecond  // for an echo from the end of the range; without one the line is high for 38 ms
	echoLonger   = 200 * time.Millisecond // without an echo some modules hold the line for so long
	pingEvery    = 60 * time.Millisecond  // so that no echo is that of the ping before
	mostMetres   = 5.0                    // JSN-SR04T: 4.5 m
)

var ultrasonicQuantities = []Quantity{{Name: "in_range", Max: 1}, {Name: "distance", Unit: "m", Max: mostMetres}}

var ultrasonic = Chip{
	Name:   "ultrasonic",
	Title:  "an ultrasonic ranger with trigger and echo: HC-SR04, JSN-SR04T",
	Source: "ElecFreaks, HC-SR04 user guide",
	Options: option.Set{Defaults: Ultrasonic{Air: 20}, Rules: map[string]option.Rule{
		"trigger": {Required: true, Wants: "a line such as GPIO23", Check: line},
		"echo":    {Required: true, Wants: "a line such as GPIO24", Check: line},
		"air":     {Wants: "a temperature in °C such as 20", Check: option.Between(-60.0, 80.0, func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) })},
	}},
	Quantities: ultrasonicQuantities,
	Every:      10 * time.Second,
	Worst:      500 * time.Millisecond,
	Look:       lookUltrasonic,
	Open:       openUltrasonic,
}

func lookUltrasonic(b board.Board, c Config) error {
	for _, l := range c.Lines() {
		if l.Line == "" {
			return fmt.Errorf("%s is missing: want a line such as GPIO24", l.Key)
		}
		id, err := b.Find(l.Line)
		if err == nil {
			err = board.Free(b, id)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.Key, err)
		}
	}
	return nil
}

// ranger is an open ultrasonic ranger.
type ranger struct {
	o       Ultrasonic
	trigger board.Output
	echo    board.EdgeReader
	edges   []board.Edge
	pause   func(time.Duration)
	pinged  time.Time
	closed  bool
}

func openUltrasonic(b board.Board, c Config) (Sensor, error) {
	o := optionsOf[Ultrasonic](c)
	if err := lookUltrasonic(b, c); err != nil {
		return nil, fmt.Errorf("open ultrasonic: %w", err)
	}
	trigger, err := b.Output(board.OutputConfig{Line: o.Trigger})
	if err != nil {
		return nil, fmt.Errorf("open ultrasonic: trigger: %w", err)
	}
	echo, err := b.EdgeReader(board.InputConfig{Line: o.Echo})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ultrasonic: echo: %w", err), trigger.Close())
	}
	pause := func(d time.Duration) { <-time.NewTimer(d).C }
	if p, ok := b.(board.Pauser); ok {
		pause = p.Pause
	}
	return &ranger{o: o, trigger: trigger, echo: echo, pause: pause}, nil
}

// Quantities returns the chip's.
func (s *ranger) Quantities() []Quantity { return ultrasonicQuantities }

// Sense measures once. The distance is left out if nothing is in range.
func (s *ranger) Sense() ([]Field, error) {
	if s.closed {
		return nil, fmt.Errorf("read ultrasonic: %w", os.ErrClosed)
	}
	flight, heard, err := s.measure()
	if err != nil {
		return nil, fmt.Errorf("read ultrasonic: %w", err)
	}
	metres := flight.Seconds() * (331.3 + 0.606*s.o.Air) / 2
	fields := []Field{{Name: ultrasonicQuantities[0].Name, Value: heard && metres <= mostMetres}}
	if fields[0].Value == true {
		fields = append(fields, Field{Name: ultrasonicQuantities[1].Name, Value: significant(metres)})
	}
	return fields, nil
}

// measure returns how long the echo line was high; heard is false if it was so for longer
// than it waits.
func (s *ranger) measure() (flight time.Duration, heard bool, err error) {
	if wait := pingEvery - time.Since(s.pinged); wait > 0 && !s.pinged.IsZero() {
		s.pause(wait)
	}
	if err := s.quiet(); err != nil {
		return 0, false, err
	}
	if err := s.ping(); err != nil {
		return 0, false, err
	}
	s.pause(echoWait)
	if s.edges, err = s.echo.Read(s.edges[:0]); err != nil {
		return 0, false, err
	}
	switch e := s.edges; {
	case len(e) == 0:
		return 0, false, fmt.Errorf("the echo line did not answer the trigger: %w; check the supply (5 V), both wires, and the voltage divider of the echo", ErrSilent)
	case len(e) == 1 && e[0].Active && e[0].Lost == 0:
		return 0, false, nil
	case len(e) == 2 && e[0].Active && !e[1].Active && e[0].Lost == 0 && e[1].Lost == 0 && e[1].Mono > e[0].Mono:
		return e[1].Mono - e[0].Mono, true, nil
	}
	return 0, false, faultf("the echo line changed %d times for one trigger: it picks up noise, or its wire is loose", len(s.edges))
}

// quiet waits until the echo of the ping before is over.
func (s *ranger) quiet() error {
	high, err := s.echo.Active()
	if high && err == nil {
		s.pause(echoLonger)
		high, err = s.echo.Active()
	}
	switch {
	case err != nil:
		return err
	case high:
		return faultf("the echo line is high before the trigger: the module hangs (take its power away for a moment), or the line is not the echo")
	}
	s.edges, err = s.echo.Read(s.edges[:0]) // of before
	return err
}

// ping makes the trigger pulse. It drives the trigger low again, whatever happens.
func (s *ranger) ping() error {
	s.pinged = time.Now()
	err := s.trigger.Set(true)
	<-time.NewTimer(triggerPulse).C
	return errors.Join(err, s.trigger.Set(false))
}

// Close drives the trigger low and releases both lines. A second call does nothing.
func (s *ranger) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if err := errors.Join(s.trigger.Set(false), s.trigger.Close(), s.echo.Close()); err != nil {
		return fmt.Errorf("close ultrasonic: %w", err)
	}
	return nil
}
