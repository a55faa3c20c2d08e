package sim

import (
	"context"
	"math"
	"time"
)

// Scene is a little life on a board, for the demo: the air goes through a day
// in five minutes, and somebody uses the door.
type Scene struct {
	Air  *BME280 // its temperature, humidity and pressure move
	Door *Line   // driven high while the door is open
}

// The scene's rhythm.
const (
	sceneStep = 250 * time.Millisecond
	sceneDay  = 5 * time.Minute
	doorEvery = 8 * time.Second
	doorOpen  = 3 * time.Second
)

// Run plays the scene until ctx ends, and returns its error. Either part may
// be nil.
func (s Scene) Run(ctx context.Context) error {
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

// set puts the board into the state it has after so long.
func (s Scene) set(t time.Duration) {
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
