//go:build chaos

package main

import (
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// stage is the simulated board, with every level of an output told.
type stage struct {
	*sim.Board
	r *simulation
}

// Output requests a line, which has its level from then on.
func (s stage) Output(c board.OutputConfig) (board.Output, error) {
	id, err := s.Find(c.Line)
	if err != nil {
		return nil, err
	}
	s.r.level("requested", id.Name, c.Active)
	o, err := s.Board.Output(c)
	if err != nil {
		return nil, err
	}
	return prop{o, s.r}, nil
}

// prop is an output of the stage. What it tells is what a relay would feel, and
// is told first: so a kill in between leaves no level untold.
type prop struct {
	board.Output
	r *simulation
}

// Set drives the line.
func (p prop) Set(active bool) error {
	name := p.ID().Name
	if active {
		p.r.haltAt("act", name)
	}
	p.r.level("set", name, active)
	err := p.Output.Set(active)
	if active {
		p.r.haltAt("acted", name)
	}
	return err
}

func (r *simulation) level(how, line string, on bool) {
	level := "off"
	if on {
		level = "on"
	}
	r.say("S", how, line, level, r.Now().Wall.UnixNano())
}
