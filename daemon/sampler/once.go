package sampler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
)

// Once opens a sensor, reads it once and closes it, for `fieldpost read`. The error is the
// driver's, or says that the sensor did not answer in time; then its goroutine stays blocked
// in the kernel. [CodeOf] returns the fault for an error. Any goroutine.
func Once(ctx context.Context, b board.Board, c sensors.Config) ([]sensors.Field, error) {
	chip, ok := sensors.Lookup(c.Chip)
	if !ok {
		return nil, fmt.Errorf("read sensor %q: unknown chip %q", c.Name, c.Chip)
	}
	return once(ctx, b, c, chip)
}

func once(ctx context.Context, b board.Board, c sensors.Config, chip sensors.Chip) ([]sensors.Field, error) {
	within, cancel := context.WithTimeout(ctx, 2*(chip.Worst+chip.WarmUp)+margin)
	defer cancel()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := board.NewWorker(c.Name)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Run(work) // ends with work
	}()
	got := make(chan []sensors.Field, 1)
	err := w.Do(within, func() error {
		fields, err := readOnce(within, b, c, chip)
		if err != nil {
			return explain(err, b, c)
		}
		got <- fields
		return nil
	})
	stop()
	select {
	case fields := <-got:
		<-ended
		return fields, nil
	default:
	}
	if within.Err() == nil {
		<-ended // it has answered, so it does not block
	}
	return nil, fmt.Errorf("read sensor %q: %w", c.Name, err)
}

// readOnce opens, reads and closes a sensor. If the sensor has no value yet, it asks again
// every second while the sensor warms up, until ctx ends.
func readOnce(ctx context.Context, b board.Board, c sensors.Config, chip sensors.Chip) (fields []sensors.Field, err error) {
	s, err := chip.Open(b, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := s.Close(); err == nil {
			err = e
		}
	}()
	again := time.NewTicker(untilReady)
	defer again.Stop()
	for opened := time.Now(); ; {
		fields, err = senseOnce(s)
		if !errors.Is(err, sensors.ErrNotReady) || time.Since(opened) > chip.WarmUp {
			break
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-again.C:
		}
	}
	if err != nil {
		return nil, err
	}
	if err := sensors.CheckFields(s.Quantities(), fields); err != nil {
		return nil, err
	}
	filters := filter.New(c, cmp.Or(c.Every, chip.Every))
	if err := filters.Fits(s.Quantities()); err != nil {
		return nil, err
	}
	fields, _, err = filters.Apply(0, fields)
	return fields, err
}

// senseOnce reads a sensor. For a counter it returns only the level, because only the daemon
// knows the total.
func senseOnce(s sensors.Sensor) ([]sensors.Field, error) {
	if c, counts := s.(sensors.Counter); counts {
		return c.Reading(sensors.Pulses{}, nil)
	}
	return s.Sense()
}
