//go:build !chaos

package main

import (
	"fmt"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/sensors/board"
)

// hold drives a line of this machine while no daemon does.
var hold daemon.Hold = board.Hold

// stand puts the daemon on this machine: its board and its clock.
func stand(o *daemon.Options) error {
	var err error
	if o.Board, err = board.Open(); err != nil {
		return fmt.Errorf("open board: %w", err)
	}
	if o.Clock, err = clock.System(); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	return nil
}
