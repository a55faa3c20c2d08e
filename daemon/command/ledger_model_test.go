package command

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/uplink"
)

// paper is a journal in memory that outlives the desks that write on it. It
// fails, and the process dies, when it is told to.
type paper struct {
	t       testing.TB
	entries [][]byte
	size    int64
	sound   bool
	fail    func(op string) error // nil: nothing fails
	step    func()                // called between any two lines; nil does nothing
	damage  spool.Damage
	rewrote int
}

func (p *paper) between() {
	if p.step != nil {
		p.step()
	}
}

func (p *paper) op(op string) error {
	if p.fail == nil {
		return nil
	}
	return p.fail(op)
}

func (p *paper) Replay(take func([]byte)) (spool.Damage, error) {
	if err := p.op("replay"); err != nil {
		return spool.Damage{}, err
	}
	for _, b := range p.entries {
		take(b)
	}
	return p.damage, nil
}

func (p *paper) Append(b []byte) error {
	if !p.sound {
		p.t.Error("Append to a journal that is not sound")
	}
	p.between()
	if err := p.op("append"); err != nil {
		p.sound = false
		return err
	}
	p.entries, p.size = append(p.entries, slices.Clone(b)), p.size+int64(len(b))+16
	p.between()
	if err := p.op("sync"); err != nil {
		p.sound = false
		return err
	}
	return nil
}

func (p *paper) Rewrite(all iter.Seq[[]byte]) error {
	p.sound = false
	p.between()
	if err := p.op("rewrite"); err != nil {
		return err
	}
	p.entries, p.size = nil, 0
	for b := range all {
		p.entries, p.size = append(p.entries, slices.Clone(b)), p.size+int64(len(b))+16
	}
	p.between()
	if err := p.op("sync"); err != nil {
		return err
	}
	p.sound, p.rewrote = true, p.rewrote+1
	return nil
}

func (p *paper) Size() int64 { return p.size }

// world is everything outside the desk: a broker that sends again what was not
// acknowledged, pins, a clock that jumps, a disk, and death.
type world struct {
	t       *testing.T
	r       *rand.Rand
	p       *paper
	desk    *Desk
	now     clock.Stamp
	boots   int
	fuse    int // steps until the process dies; 0 is never
	broken  bool
	faulted bool // the disk has failed at some time

	queue [][]byte // not acknowledged
	sent  [][]byte
	acts  map[string]int // energising ones, by id
	said  map[string][]saying

	passed, skew time.Duration // time that really passed; how wrong the clock is
}

// saying is an answer and when it was given.
type saying struct {
	Answer
	at time.Duration
}

var errKilled = errors.New("killed")

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 4)), acts: map[string]int{}, said: map[string][]saying{}}
	w.now = clock.Stamp{Boot: "0", Mono: time.Minute, Wall: time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC), Synced: true}
	w.p = &paper{t: t, step: w.step, fail: func(string) error {
		if w.broken {
			return syscall.ENOSPC
		}
		return nil
	}}
	return w
}

func (w *world) step() {
	if w.fuse > 0 {
		if w.fuse--; w.fuse == 0 {
			panic(errKilled)
		}
	}
}

func (w *world) Energises(name string, a output.Action) (energises, ok bool) {
	return a.Energises(output.Off), name == "pump"
}

func (w *world) Do(o output.Order) (output.State, error) {
	w.step()
	id := o.ID
	if o.Action != output.ActionOff {
		if w.acts[id]++; w.acts[id] > 1 {
			w.t.Errorf("order %s acted %d times", id, w.acts[id])
		}
		if !w.now.Synced || w.broken {
			w.t.Errorf("order %s energised, synced %v, disk broken %v", id, w.now.Synced, w.broken)
		}
	}
	w.step()
	return output.State{Name: o.Output, Level: o.Action != output.ActionOff, Since: w.now.Wall}, nil
}

// living runs f until it returns or the process dies.
func (w *world) living(f func()) (alive bool) {
	defer func() {
		if v := recover(); v != nil {
			if v != errKilled {
				panic(v)
			}
			alive = false
		}
	}()
	f()
	return true
}

// start starts a desk, as often as it takes to live through it.
func (w *world) start() {
	for !w.living(func() {
		w.desk = New(Options{
			Thing: thing, MaxLife: time.Hour, Outputs: w, Journal: w.p,
			Clock: clock.Func(func() clock.Stamp { return w.now }),
			Answer: func(r spool.Record) {
				w.step()
				w.hear(r)
				w.step()
			},
		})
	}) {
		w.fuse = w.r.IntN(3)
	}
}

func (w *world) hear(r spool.Record) {
	text := map[string]string{}
	for _, f := range r.Fields {
		text[f.Name] = f.Value.(string)
	}
	id := text["id"]
	w.said[id] = append(w.said[id], saying{Answer{ID: id, Status: Status(text["status"]), Reason: Code(text["reason"])}, w.passed})
}

// deliver hands the queue in; what is not acknowledged stays in it.
func (w *world) deliver() {
	for len(w.queue) > 0 {
		in, acked := make(chan uplink.Message, 1), false
		in <- uplink.Message{Payload: w.queue[0], Ack: func() { w.step(); acked = true; w.step() }, Lost: func() bool { return false }}
		close(in)
		alive := w.living(func() {
			if err := w.desk.Serve(w.t.Context(), in); err != nil {
				w.t.Error(err)
			}
		})
		if acked {
			w.queue = w.queue[1:]
		}
		if !alive {
			w.again()
		}
	}
}

// again starts a desk after a death.
func (w *world) again() {
	w.fuse = 0
	if w.r.IntN(4) == 0 { // the board went down too
		w.boots++
		w.now.Boot, w.now.Mono = fmt.Sprint(w.boots), time.Duration(w.r.IntN(60))*time.Second
	}
	w.start()
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.passed += d
	w.now.Mono += d
	w.now.Wall = time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC).Add(w.passed + w.skew)
}

// chance lets something happen to the world.
func (w *world) chance(disk bool) {
	w.pass(time.Duration(w.r.IntN(300)) * time.Second)
	switch w.r.IntN(12) {
	case 0: // days pass
		w.pass(time.Duration(w.r.IntN(60)) * time.Hour)
	case 1: // the time is set, by less than an id is kept
		w.skew = time.Duration(w.r.IntN(12)-6) * time.Hour
		w.pass(0)
	case 2:
		w.now.Synced = !w.now.Synced
	case 3:
		if !w.living(w.desk.tidy) {
			w.again()
		}
	case 4, 5, 6:
		w.fuse = 1 + w.r.IntN(14)
	case 7:
		w.broken = disk && !w.broken
		w.faulted = w.faulted || w.broken
	}
}

// next is a new order or, as often, one that was sent before.
func (w *world) next(i int) []byte {
	if len(w.sent) > 0 && w.r.IntN(2) == 0 {
		return w.sent[w.r.IntN(len(w.sent))]
	}
	action := []string{"on", "toggle", "pulse", "off"}[w.r.IntN(4)]
	expires := w.now.Wall.Add(time.Duration(w.r.IntN(4500)-300) * time.Second)
	text := fmt.Appendf(nil, `{"id":"c-%d","output":"pump","action":%q,"expires":%q}`, i, action, expires.Format(time.RFC3339))
	w.sent = append(w.sent, text)
	return text
}

// agrees checks the answers to an order against what was done: one verdict,
// however often it was sent, and the one that is true.
func (w *world) agrees(id string) {
	all := w.said[id]
	if len(all) == 0 {
		w.t.Errorf("order %s was never answered", id)
		return
	}
	if w.faulted {
		return // an order to safe is done each time, and a result may be lost
	}
	for _, a := range all {
		if a.Answer != all[0].Answer && a.at-all[0].at < 12*time.Hour { // later it may be forgotten
			w.t.Errorf("order %s was answered %v and %v", id, all[0], a)
		}
	}
	acts := w.acts[id]
	if s := all[0].Status; s == Refused && acts != 0 {
		w.t.Errorf("order %s was refused and acted", id)
	}
}

// sequences is how many TestLedgerAgainstModel runs.
var sequences uint64 = 10_000

// Random orders, duplicates, redeliveries, deaths between any two lines, time
// that jumps and a disk that fills: no order that energises acts twice, late,
// or without a ledger, and every order has one verdict. [CMD-4] [CMD-11]
// [CMD-12] [CMD-13] [CMD-14]
func TestLedgerAgainstModel(t *testing.T) {
	for seed := range sequences {
		w := newWorld(t, seed)
		w.start()
		for i := range 24 {
			w.chance(seed%2 == 1)
			w.queue = append(w.queue, w.next(i))
			w.deliver()
		}
		w.fuse = 0
		for _, text := range w.sent {
			o, err := Decode(text, thing)
			if err != nil {
				t.Fatal(err)
			}
			w.agrees(o.ID)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
