//go:build chaos

package main

import (
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// reportingBoard is the simulated board. It reports every level of an output.
type reportingBoard struct {
	*sim.Board
	r *simulation
}

// Output requests a line, which gets its level then.
func (s reportingBoard) Output(c board.OutputConfig) (board.Output, error) {
	id, err := s.Find(c.Line)
	if err != nil {
		return nil, err
	}
	s.r.level("requested", id.Name, c.Active)
	o, err := s.Board.Output(c)
	if err != nil {
		return nil, err
	}
	return reportingOutput{o, s.r}, nil
}

// reportingOutput is an output of that board. It reports a level before it drives it, so
// that a kill in between hides no level.
type reportingOutput struct {
	board.Output
	r *simulation
}

// Set drives the line.
func (p reportingOutput) Set(active bool) error {
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
