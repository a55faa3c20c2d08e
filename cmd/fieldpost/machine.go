//go:build !chaos

package main

import (
	"fmt"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/sensors/board"
)

// hold drives a line of this machine while no daemon runs.
var hold daemon.Hold = board.Hold

// drivePWM drives a PWM channel of this machine while no daemon runs.
var drivePWM daemon.DrivePWM = board.DrivePWM

// setMachine sets this machine's board and clock in o.
func setMachine(o *daemon.Options) error {
	var err error
	if o.Board, err = board.Open(); err != nil {
		return fmt.Errorf("open board: %w", err)
	}
	if o.Clock, err = clock.System(); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	return nil
}
