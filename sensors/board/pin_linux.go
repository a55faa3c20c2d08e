package board

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
)

// linePin is a line as a periph pin. The first In or Out requests it and Halt releases
// it. Its levels are physical: High is a voltage.
type linePin struct {
	m    *Machine
	id   LineID
	name string

	mu   sync.Mutex
	in   *inputLine  // at most one of in and out is set
	out  *outputLine //
	edge gpio.Edge
	pull gpio.Pull
}

var _ gpio.PinIO = (*linePin)(nil)

// String names the line for people.
func (p *linePin) String() string { return p.id.String() }

// Name is the name under which the pin is registered.
func (p *linePin) Name() string { return p.name }

// Number is the line's offset on its chip.
func (p *linePin) Number() int { return p.id.Offset }

// Function returns the direction of the request.
func (p *linePin) Function() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.in != nil:
		return "In"
	case p.out != nil:
		return "Out"
	}
	return ""
}

// Halt releases the line and ends a wait for its edges.
func (p *linePin) Halt() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.release()
}

func (p *linePin) release() error {
	in, out := p.in, p.out
	p.in, p.out, p.edge, p.pull = nil, nil, gpio.NoEdge, gpio.PullNoChange
	switch {
	case in != nil:
		return in.Close()
	case out != nil:
		return out.Close()
	}
	return nil
}

// In makes the line an input.
func (p *linePin) In(pull gpio.Pull, edge gpio.Edge) error {
	biases := map[gpio.Pull]Pull{gpio.PullNoChange: PullAsIs, gpio.Float: PullNone, gpio.PullUp: PullUp, gpio.PullDown: PullDown}
	bias, ok := biases[pull]
	if !ok {
		return fmt.Errorf("request line %s: pull %d is unknown", p.id, pull)
	}
	if edge < gpio.NoEdge || edge > gpio.BothEdges {
		return fmt.Errorf("request line %s: edge %d is unknown", p.id, edge)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.release(); err != nil {
		return err
	}
	in, err := p.m.input(p.id, InputConfig{Pull: bias}, edge != gpio.NoEdge)
	if err != nil {
		return err
	}
	p.in, p.edge, p.pull = in, edge, pull
	return nil
}

// Read reads the level, also of an output. It returns Low if the line cannot be read,
// because periph has no error for that.
func (p *linePin) Read() gpio.Level {
	p.mu.Lock()
	defer p.mu.Unlock()
	high, err := false, error(nil)
	switch {
	case p.in != nil:
		high, err = p.in.Active()
	case p.out != nil:
		high, err = p.out.Active()
	}
	return gpio.Level(high && err == nil)
}

// WaitForEdge waits for an edge of the kind that In asked for; for ever if timeout is
// negative. In, Out and Halt end the wait.
func (p *linePin) WaitForEdge(timeout time.Duration) bool {
	p.mu.Lock()
	in, edge := p.in, p.edge
	p.mu.Unlock()
	if in == nil || edge == gpio.NoEdge {
		return false
	}
	var late <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case e, open := <-in.Edges():
			if !open {
				return false
			}
			if edge == gpio.BothEdges || e.Active == (edge == gpio.RisingEdge) {
				return true
			}
		case <-late:
			return false
		}
	}
}

// Pull returns the bias that In asked for.
func (p *linePin) Pull() gpio.Pull {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pull
}

// DefaultPull returns PullNoChange: the default is not known.
func (p *linePin) DefaultPull() gpio.Pull { return gpio.PullNoChange }

// Out makes the line an output with this level from the first moment.
func (p *linePin) Out(l gpio.Level) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != nil {
		return p.out.Set(bool(l))
	}
	if err := p.release(); err != nil {
		return err
	}
	out, err := p.m.output(p.id, OutputConfig{Active: bool(l)})
	if err != nil {
		return err
	}
	p.out = out
	return nil
}

// PWM returns an error: the kernel's lines have no PWM.
func (p *linePin) PWM(gpio.Duty, physic.Frequency) error {
	return errors.New("line " + p.id.String() + " has no PWM: GPIO lines are on or off")
}
