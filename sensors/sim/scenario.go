package sim

import (
	"context"
	"math"
	"time"
)

// Scenario moves a board's inputs, for the demo: the air goes through a day in five
// minutes, and the door opens and closes.
type Scenario struct {
	Air  *BME280 // its temperature, humidity and pressure move
	Door *Line   // driven high while the door is open
}

// The scenario's periods.
const (
	sceneStep = 250 * time.Millisecond
	sceneDay  = 5 * time.Minute
	doorEvery = 8 * time.Second
	doorOpen  = 3 * time.Second
)

// Run runs the scenario until ctx ends, and returns its error. Air and Door may be nil.
func (s Scenario) Run(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(sceneStep)
	defer tick.Stop()
	for {
		s.set(time.Since(start))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// set sets the board's state at time t of the scenario.
func (s Scenario) set(t time.Duration) {
	if s.Air != nil {
		wave := math.Sin(2 * math.Pi * t.Seconds() / sceneDay.Seconds())
		s.Air.SetTemperature(21.5 + 3*wave)
		s.Air.SetHumidity(48 - 9*wave)
		s.Air.SetPressure(101325 + 40*wave)
	}
	if s.Door != nil {
		s.Door.Drive(t%doorEvery >= doorEvery-doorOpen)
	}
}
