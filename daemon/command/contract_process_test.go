package command

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// process is one process of the world. After its death nothing that it does has any
// effect, as if it had stopped between two lines of code.
type process struct {
	world      *world
	bank       *output.Bank
	dispatcher *Dispatcher
	in         chan uplink.Message
	stop       func()
	dead       atomic.Bool
	fuse       atomic.Int64 // steps until it dies; 0: never

	lost  *atomic.Bool // whether the present connection has ended
	again bool         // there was an earlier one

	mu    sync.Mutex
	held  []board.Output
	doing map[string]output.Order // orders being carried out, by output
	index map[string]int          // order of the ids' first arrival in this process
}

func newProcess(w *world) *process {
	p := &process{world: w, in: make(chan uplink.Message, 4096), doing: map[string]output.Order{}, index: map[string]int{}}
	p.fuse.Store(w.process.left())
	return p
}

// left returns the rest of the fuse. If the process did not die, the next one dies after
// these steps.
func (p *process) left() int64 {
	if p == nil || p.world.r.IntN(3) > 0 {
		return 0
	}
	return int64(p.world.r.IntN(8))
}

var errKilled = errors.New("killed")

// step is a point between two lines of code. It reports whether the process lives.
func (p *process) step() bool {
	if p.dead.Load() {
		return false
	}
	if p.fuse.Load() > 0 && p.fuse.Add(-1) == 0 {
		p.dead.Store(true)
		return false
	}
	return true
}

func (p *process) connection() { p.lost = &atomic.Bool{} }

// diskStep is one operation of the journal's disk.
func (p *process) diskStep(op string) error {
	if !p.step() {
		return errKilled
	}
	p.world.mu.Lock()
	slow, err := p.world.slow, p.world.diskErr
	p.world.mu.Unlock()
	if slow > 0 {
		<-time.After(slow)
	}
	if !p.step() {
		return errKilled
	}
	if op == "replay" {
		if !errors.Is(err, syscall.EIO) {
			return nil // a full disk can still be read
		}
		p.world.mu.Lock()
		p.world.unread = true
		p.world.mu.Unlock()
	}
	return err
}

// runtimeStep is one operation of the runtime directory.
func (p *process) runtimeStep(string) error {
	if !p.step() {
		return errKilled
	}
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	return p.world.runtimeErr
}

// release releases the lines of a dead process.
func (p *process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.held {
		_ = o.Close() // it may be closed already
	}
}

// Do implements Outputs.
func (p *process) Do(o output.Order) (output.State, error) {
	if !p.step() {
		return output.State{}, errKilled
	}
	p.mu.Lock()
	p.doing[o.Output] = o
	p.mu.Unlock()
	s, err := p.bank.Do(o)
	p.mu.Lock()
	delete(p.doing, o.Output)
	p.mu.Unlock()
	if !p.step() {
		return output.State{}, errKilled
	}
	return s, err
}

// Energises implements Outputs.
func (p *process) Energises(name string, a output.Action, level output.Level) (bool, bool) {
	return p.bank.Energises(name, a, level)
}

// killableBoard is a board whose outputs change only while a process lives.
type killableBoard struct {
	*sim.Board
	l *process
}

func (m killableBoard) Output(c board.OutputConfig) (board.Output, error) {
	if !m.l.step() {
		return nil, errKilled
	}
	o, err := m.Board.Output(c)
	if err != nil {
		return nil, err
	}
	m.l.mu.Lock()
	m.l.held = append(m.l.held, o)
	m.l.mu.Unlock()
	i := slices.IndexFunc(contractOutputs, func(w output.Config) bool { return w.Pin == c.Line })
	active, err := o.Active()
	if err != nil {
		return nil, err
	}
	m.l.world.requested(contractOutputs[i].Name, output.LevelOf(active))
	k := &killableOutput{o, m.l, contractOutputs[i]}
	if chip, ok := o.(board.Restorer); ok {
		return killableExpanderOutput{k, chip}, nil
	}
	return k, nil
}

// killableExpanderOutput is a killableOutput on an expander.
type killableExpanderOutput struct {
	*killableOutput
	chip board.Restorer
}

func (w killableExpanderOutput) Restore(active bool) error {
	if !w.l.step() {
		return errKilled
	}
	return w.chip.Restore(active)
}

func (w killableExpanderOutput) Drive(active bool) error {
	if !w.l.step() {
		return errKilled
	}
	return w.chip.Drive(active)
}

func (w killableExpanderOutput) Redrive(active bool) error {
	if !w.l.step() {
		return errKilled
	}
	return w.chip.Redrive(active)
}

func (w killableExpanderOutput) Answers() error { return w.chip.Answers() }

type killableOutput struct {
	board.Output
	l *process
	c output.Config
}

// Set checks the contract for each new level.
func (w *killableOutput) Set(active bool) error {
	if !w.l.step() {
		return errKilled
	}
	world := w.l.world
	w.l.mu.Lock()
	o, ordered := w.l.doing[w.c.Name]
	index := w.l.index[o.ID]
	w.l.mu.Unlock()
	world.mu.Lock()
	world.begins(world, w.l, w.c, output.LevelOf(active), o, ordered, index)
	hang := world.hangs[w.c.Name]
	delete(world.hangs, w.c.Name)
	if hang > 0 {
		world.hanging++
	}
	if hang > 0 && world.expander != nil { // the others on the chip wait for it
		for _, c := range contractOutputs {
			world.hung[c.Name] = true
		}
	}
	world.mu.Unlock()
	if hang > 0 {
		<-time.After(hang)
		world.mu.Lock()
		world.hanging--
		world.mu.Unlock()
	}
	if !w.l.step() {
		return errKilled
	}
	world.mu.Lock()
	world.moved(world, w.c, output.LevelOf(active), o, ordered, hang)
	world.mu.Unlock()
	return w.Output.Set(active)
}

func (w *killableOutput) Active() (bool, error) {
	if w.l.dead.Load() {
		return false, errKilled
	}
	return w.Output.Active()
}

// hand delivers a message on the present connection.
func (p *process) hand(m *queuedMessage) {
	lost := p.lost
	p.world.arrives(p, m.text)
	p.in <- uplink.Message{Topic: orders, Payload: m.text, QoS: 1, Lost: lost.Load, Ack: func() {
		if !p.step() || lost.Load() {
			return
		}
		p.world.mu.Lock()
		defer p.world.mu.Unlock()
		for i, q := range p.world.queue {
			if q == m {
				p.world.queue = append(p.world.queue[:i:i], p.world.queue[i+1:]...)
				break
			}
		}
		p.world.logf("acknowledged %s", m.text)
	}}
}

// answer keeps an answer in memory, which does not outlive the process. After some time
// it is at the broker or on disk.
func (p *process) answer(r message.Record) <-chan struct{} {
	kept := make(chan struct{})
	if !p.step() {
		return kept
	}
	p.world.mu.Lock()
	id, after := p.world.hear(p.world, r), p.world.delivery
	p.world.mu.Unlock()
	time.AfterFunc(after, func() {
		if !p.step() {
			return
		}
		p.world.mu.Lock()
		p.world.logf("answer to %s arrived", id)
		p.world.arrived[id]++
		p.world.mu.Unlock()
		if p.step() {
			close(kept)
		}
	})
	p.step()
	return kept
}
