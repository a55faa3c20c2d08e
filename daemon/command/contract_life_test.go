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

// life is one process of the world. From its death on nothing that it does has
// any effect, as if it had stopped between two lines.
type life struct {
	w    *world
	bank *output.Bank
	desk *Desk
	in   chan uplink.Message
	stop func()
	dead atomic.Bool
	fuse atomic.Int64 // steps until it dies; 0 is never

	lost  *atomic.Bool // whether the present connection has ended
	again bool         // there was one before

	mu    sync.Mutex
	held  []board.Output
	doing map[string]output.Order // by output
	index map[string]int          // when the id first came, in this life
}

func newLife(w *world) *life {
	l := &life{w: w, in: make(chan uplink.Message, 4096), doing: map[string]output.Order{}, index: map[string]int{}}
	l.fuse.Store(w.life.left())
	return l
}

// left is what is left of a fuse that was set and did not burn down: a death
// that comes at the start of the next process, then.
func (l *life) left() int64 {
	if l == nil || l.w.r.IntN(3) > 0 {
		return 0
	}
	return int64(l.w.r.IntN(8))
}

var errKilled = errors.New("killed")

// step is a point between two lines. It reports whether the process lives.
func (l *life) step() bool {
	if l.dead.Load() {
		return false
	}
	if l.fuse.Load() > 0 && l.fuse.Add(-1) == 0 {
		l.dead.Store(true)
		return false
	}
	return true
}

func (l *life) connection() { l.lost = &atomic.Bool{} }

// diskStep is one step of the journal's disk.
func (l *life) diskStep(op string) error {
	if !l.step() {
		return errKilled
	}
	l.w.mu.Lock()
	slow, err := l.w.slow, l.w.disk
	l.w.mu.Unlock()
	if slow > 0 {
		<-time.After(slow)
	}
	if !l.step() {
		return errKilled
	}
	if op == "replay" {
		if !errors.Is(err, syscall.EIO) {
			return nil // a full disk can be read
		}
		l.w.mu.Lock()
		l.w.unread = true
		l.w.mu.Unlock()
	}
	return err
}

// besideStep is one step of the runtime directory.
func (l *life) besideStep(string) error {
	if !l.step() {
		return errKilled
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.besides
}

// release gives back the lines of a dead process.
func (l *life) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.held {
		_ = o.Close() // it may have been closed
	}
}

// Do implements Outputs.
func (l *life) Do(o output.Order) (output.State, error) {
	if !l.step() {
		return output.State{}, errKilled
	}
	l.mu.Lock()
	l.doing[o.Output] = o
	l.mu.Unlock()
	s, err := l.bank.Do(o)
	l.mu.Lock()
	delete(l.doing, o.Output)
	l.mu.Unlock()
	if !l.step() {
		return output.State{}, errKilled
	}
	return s, err
}

// Energises implements Outputs.
func (l *life) Energises(name string, a output.Action) (bool, bool) { return l.bank.Energises(name, a) }

// mortal is a board whose outputs move only while a process lives.
type mortal struct {
	*sim.Board
	l *life
}

func (m mortal) Output(c board.OutputConfig) (board.Output, error) {
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
	i := slices.IndexFunc(wires, func(w output.Config) bool { return w.Pin == c.Line })
	active, err := o.Active()
	if err != nil {
		return nil, err
	}
	m.l.w.requested(wires[i].Name, output.Level(active))
	return &wire{o, m.l, wires[i]}, nil
}

type wire struct {
	board.Output
	l *life
	c output.Config
}

// Set is watched: here the contract is kept or not.
func (w *wire) Set(active bool) error {
	if !w.l.step() {
		return errKilled
	}
	world := w.l.w
	w.l.mu.Lock()
	o, ordered := w.l.doing[w.c.Name]
	index := w.l.index[o.ID]
	w.l.mu.Unlock()
	world.mu.Lock()
	world.begins(world, w.l, w.c, output.Level(active), o, ordered, index)
	hang := world.hangs[w.c.Name]
	delete(world.hangs, w.c.Name)
	world.mu.Unlock()
	if hang > 0 {
		<-time.After(hang)
	}
	if !w.l.step() {
		return errKilled
	}
	world.mu.Lock()
	world.moved(world, w.c, output.Level(active), o, ordered, hang)
	world.mu.Unlock()
	return w.Output.Set(active)
}

func (w *wire) Active() (bool, error) {
	if w.l.dead.Load() {
		return false, errKilled
	}
	return w.Output.Active()
}

// hand delivers a letter on the present connection.
func (l *life) hand(m *letter) {
	lost := l.lost
	l.w.arrives(l, m.text)
	l.in <- uplink.Message{Topic: orders, Payload: m.text, QoS: 1, Lost: lost.Load, Ack: func() {
		if !l.step() || lost.Load() {
			return
		}
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		for i, q := range l.w.queue {
			if q == m {
				l.w.queue = append(l.w.queue[:i:i], l.w.queue[i+1:]...)
				break
			}
		}
		l.w.note("acknowledged %s", m.text)
	}}
}

// answer takes what the desk says into a memory that does not outlive the
// process. After a while it is at the broker or on disk.
func (l *life) answer(r message.Record) <-chan struct{} {
	kept := make(chan struct{})
	if !l.step() {
		return kept
	}
	l.w.mu.Lock()
	id, after := l.w.hear(l.w, r), l.w.mail
	l.w.mu.Unlock()
	time.AfterFunc(after, func() {
		if !l.step() {
			return
		}
		l.w.mu.Lock()
		l.w.note("answer to %s arrived", id)
		l.w.arrived[id]++
		l.w.mu.Unlock()
		if l.step() {
			close(kept)
		}
	})
	l.step()
	return kept
}
