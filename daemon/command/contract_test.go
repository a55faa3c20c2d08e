package command

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
	"fieldpost/sensors/sim"
)

// sequences is the number of runs of TestContract. FIELDPOST_SEQUENCES sets others:
// 400+10000 runs ten thousand from the four hundredth on.
var sequences uint64 = 400

// TestContract runs random orders for several outputs, with duplicates, redeliveries,
// lost connections, kills and power cuts between any two lines of code, reloads with
// other outputs, answers that a crash loses, a clock that jumps, a disk that is full or
// hangs, and lines that hang, on the machine and on expanders that lose their power. The
// lines of a real bank always follow the contract. No energising order acts twice, late,
// without its intent on disk, or after a later order to the safe level. Every order has
// one outcome, which is true and is delivered. [CMD-4] [CMD-8] [CMD-9] [CMD-11] [CMD-12]
// [CMD-13] [CMD-14] [CMD-15]
func TestContract(t *testing.T) {
	first, n := uint64(0), sequences
	if s := os.Getenv("FIELDPOST_SEQUENCES"); s != "" {
		if _, err := fmt.Sscanf(s, "%d+%d", &first, &n); err != nil {
			t.Fatalf("FIELDPOST_SEQUENCES: %v, want the first and how many: 0+10000", err)
		}
	}
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			w.begin()
			for i := range 30 {
				w.chance()
				w.send(w.next(i))
				if w.r.IntN(2) == 0 {
					synctest.Wait()
				}
			}
			w.calm()
			w.checkAnswers()
			w.end()
			if t.Failed() {
				t.Logf("seed %d:", seed)
				for _, line := range w.log {
					t.Log(line)
				}
			}
		})
	}
}

// contractOutputs are the world's outputs with their pins and bounds.
var contractOutputs = []output.Config{
	{Name: "pump", Pin: "GPIO27", Safe: output.SafeOff, MaxOn: 10 * time.Minute, MinOff: 20 * time.Second, Interlock: []string{"valve"}},
	{Name: "lock", Pin: "GPIO5", Safe: output.SafeOn, Initial: output.InitialOn},
	{Name: "valve", Pin: "GPIO6", Safe: output.SafeOff, ActiveLow: true, MinOn: 15 * time.Second},
	{Name: "fan", Pin: "GPIO7", Safe: output.SafeKeep, Initial: output.InitialKeep},
	{Name: "heater", Pin: "GPIO8", Safe: output.SafeOff, Refresh: 45 * time.Second},
}

// world is everything outside of the process: a broker that sends unacknowledged messages
// again, lines, a clock that jumps, a disk, kills and power cuts.
type world struct {
	t        *testing.T
	r        *rand.Rand // used only by the main goroutine
	board    *sim.Board
	expander *sim.Expander // where the lines are; nil: on the machine
	journal  *memJournal
	runtime  *memJournal // the runtime directory, which a power cut clears
	process  *process
	start    time.Time
	sent     [][]byte

	mu               sync.Mutex
	log              []string // what happened
	skew             time.Duration
	jumped, unsynced time.Time // when the clock last jumped, and last lost its synchronisation
	synced           bool
	boot             int
	booted           time.Time
	queue            []*queuedMessage // not acknowledged
	hangs            map[string]time.Duration
	hanging          int             // calls that hang now, of the outputs on the expander
	leaving          map[string]bool // outputs that a reload has removed, until their lines are requested again
	diskErr          error           // the error of the disk; nil: none
	runtimeErr       error           // the error of the runtime directory
	slow             time.Duration
	delivery         time.Duration // how long it takes until an answer is safe from a crash
	faulty           bool          // the disk has failed or hung before
	bare             bool          // also the runtime directory failed, or a power cut cleared it
	unread           bool          // a process started without being able to read the disk
	lied             bool          // the clock was wrong by more than the time an id is kept
	short            bool          // the ledger has no room for ids of earlier boots
	cramped          bool          // the ledger has room for only a few refusals
	contractLog
}

// queuedMessage is a message in the broker's session.
type queuedMessage struct{ text []byte }

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 4)), board: sim.New(), start: time.Now(), synced: true, booted: time.Now().Add(-time.Minute),
		hangs: map[string]time.Duration{}, leaving: map[string]bool{}, contractLog: newContractLog(),
	}
	w.journal, w.runtime = &memJournal{t: t}, &memJournal{t: t}
	w.short, w.cramped = seed%2 == 0, seed%3 == 0
	if kinds := []sim.ExpanderKind{sim.MCP23017, sim.TCA9555, sim.PCF8574}; seed%7 < 3 {
		w.expander = w.board.MoveLines("1-0020", kinds[seed%7], 7) // the fan stays, because what it lost would be set without an order
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%9.3f ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) now() clock.Stamp {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stamp()
}

func (w *world) stamp() clock.Stamp {
	return clock.Stamp{Boot: fmt.Sprint(w.boot), Mono: time.Since(w.booted), Wall: time.Now().Add(w.skew).UTC(), Synced: w.synced}
}

// begin starts a process with the state that the last one left. It may die while it
// starts.
func (w *world) begin() {
	for {
		p := newProcess(w)
		w.process = p
		w.journal.failing(p.diskStep)
		w.runtime.failing(p.runtimeStep)
		p.bank = output.Open(output.Options{Board: killableBoard{w.board, p}, Outputs: contractOutputs, Clock: clock.Func(w.now)})
		p.dispatcher = New(Options{Thing: thing, Topic: orders, MaxLife: time.Hour, Outputs: p, Clock: clock.Func(w.now), Journal: w.journal, RuntimeJournal: w.runtime, Answer: p.answer})
		if w.short {
			p.dispatcher.ledger.orders.capacity.foreign = 0
		}
		if w.cramped {
			p.dispatcher.ledger.orders.capacity.refused = 3
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 2)
		go func() { ended <- p.bank.Run(ctx) }()
		go func() { ended <- p.dispatcher.Serve(ctx, p.in) }()
		p.stop = func() {
			cancel()
			for range 2 {
				if err := <-ended; !errors.Is(err, context.Canceled) {
					w.t.Errorf("ended with %v", err)
				}
			}
			p.release()
		}
		if !p.dead.Load() {
			w.connect()
			return
		}
		w.clearDead()
	}
}

// clearDead cleans up after a dead process, perhaps with a power cut.
func (w *world) clearDead() {
	w.process.stop()
	power := w.r.IntN(4) == 0
	w.journal.crash(power, w.r)
	w.runtime.crash(false, w.r) // unsynced writes survive a kill
	if power {
		w.runtime.wipe()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logf("dead, power cut %v", power)
	if power {
		w.bare = w.bare || w.faulty
		w.boot++
		w.booted = time.Now().Add(-time.Duration(w.r.IntN(60)) * time.Second)
	}
}

func (w *world) revive() {
	if w.process.dead.Load() {
		w.clearDead()
		w.begin()
	}
}

// connect makes the broker send all unacknowledged messages.
func (w *world) connect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.process
	if p.lost != nil {
		p.lost.Store(true)
		p.again = true
	}
	p.connection()
	for _, m := range w.queue {
		p.hand(m)
	}
}

// send publishes a message.
func (w *world) send(text []byte) {
	w.revive()
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &queuedMessage{text}
	w.queue = append(w.queue, m)
	w.process.hand(m)
}

// next returns a new order or, now and then, an earlier one.
func (w *world) next(i int) []byte {
	if len(w.sent) > 0 && w.r.IntN(4) == 0 {
		return w.sent[w.r.IntN(len(w.sent))]
	}
	c := contractOutputs[w.r.IntN(len(contractOutputs))]
	action := []string{"on", "toggle", "pulse", "off"}[w.r.IntN(4)]
	expires := w.now().Wall.Add(time.Duration(w.r.IntN(4500)-300) * time.Second)
	if w.r.IntN(3) == 0 {
		expires = w.now().Wall.Add(time.Duration(w.r.IntN(20)) * time.Second)
	}
	text := fmt.Appendf(nil, `{"id":"c-%d","output":%q,"action":%q,"expires":%q}`, i, c.Name, action, expires.Format(time.RFC3339Nano))
	w.sent = append(w.sent, text)
	return text
}

// chance makes something random happen.
func (w *world) chance() {
	if w.r.IntN(2) == 0 {
		<-time.After(time.Duration(w.r.IntN(60_000)) * time.Millisecond)
	}
	w.revive()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delivery = time.Duration(w.r.IntN(6000)) * time.Millisecond
	if w.expander != nil && w.r.IntN(6) == 0 {
		w.logf("the expander loses its power")
		w.expander.LosePower()
		for _, c := range contractOutputs {
			w.hung[c.Name] = true // it is made safe early
		}
	}
	switch w.r.IntN(14) {
	case 0: // the clock is set wrong
		w.skew, w.jumped = time.Duration(w.r.IntN(12)-6)*time.Hour, time.Now()
		if w.r.IntN(2) == 0 {
			w.skew = []time.Duration{26 * time.Hour, -26 * time.Hour, 87600 * time.Hour, -87600 * time.Hour, 0}[w.r.IntN(5)]
			w.lied = true
		}
	case 1:
		w.synced = !w.synced
		w.unsynced = time.Now()
	case 2, 3, 4:
		w.process.fuse.Store(int64(1 + w.r.IntN(40)))
	case 5:
		w.hangs[contractOutputs[w.r.IntN(len(contractOutputs))].Name] = time.Duration(w.r.IntN(100)) * time.Second
	case 6:
		w.diskErr = []error{syscall.ENOSPC, syscall.EIO, nil, nil}[w.r.IntN(4)]
		w.faulty = w.faulty || w.diskErr != nil
	case 7:
		w.slow = time.Duration(w.r.IntN(20_000)) * time.Millisecond
		w.faulty = true
	case 8:
		w.slow = time.Duration(w.r.IntN(100)) * time.Millisecond
	case 9:
		w.mu.Unlock()
		w.connect()
		w.mu.Lock()
	case 10: // it is wrong over a reboot, long enough to forget ids, and is corrected
		w.skew, w.lied = []time.Duration{26 * time.Hour, 87600 * time.Hour}[w.r.IntN(2)], true
		w.boot++
		w.booted = time.Now()
		w.process.dead.Store(true)
		w.bare = w.bare || w.faulty
		w.mu.Unlock()
		w.revive()
		<-time.After(2 * time.Minute)
		w.mu.Lock()
		w.skew, w.jumped = 0, time.Now()
	case 12, 13:
		w.reloadLocked()
	case 11:
		if w.r.IntN(4) == 0 {
			w.runtimeErr = []error{syscall.ENOSPC, nil}[w.r.IntN(2)]
			w.bare = w.bare || w.runtimeErr != nil
		}
	}
}

// reloadLocked gives the process another configuration: some of the outputs, and another
// limit for orders. It waits for what a reload waits for.
func (w *world) reloadLocked() {
	var next []output.Config
	for _, c := range contractOutputs {
		if w.r.IntN(4) == 0 {
			w.leaving[c.Name] = true
			continue
		}
		next = append(next, c)
	}
	p, s := w.process, Settings{Thing: thing, Topic: orders, MaxLife: time.Duration(1+w.r.IntN(2)) * time.Hour}
	w.logf("reload with %d outputs", len(next))
	w.mu.Unlock()
	defer w.mu.Lock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(w.r.IntN(20))*time.Second)
	defer cancel()
	p.dispatcher.Reconfigure(s)
	_, err := p.bank.Reconfigure(ctx, next)
	switch {
	case errors.Is(err, context.DeadlineExceeded): // a line hangs
	case err != nil:
		w.t.Errorf("reload: %v", err)
	case !p.dead.Load():
		w.checkGone()
	}
}

// checkGone checks that the outputs that a reload removed are safe and released.
func (w *world) checkGone() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range contractOutputs {
		safe, has := c.Safe.Level()
		if !w.leaving[c.Name] {
			continue
		}
		_, held := w.board.Holder(w.board.Line(c.Pin).ID())
		if _, driven := w.board.Line(c.Pin).Level(); held || driven && w.expander == nil || has && w.level[c.Name] != safe {
			w.t.Errorf("%s was taken out, and is %s, still held %v, driven %v", c.Name, w.level[c.Name], held, driven)
		}
	}
}

// calm ends all faults, and waits until there is nothing left to do.
func (w *world) calm() {
	w.mu.Lock()
	w.diskErr, w.runtimeErr, w.slow, w.synced = nil, nil, 0, true
	clear(w.hangs)
	w.process.fuse.Store(0)
	w.mu.Unlock()
	for range 3 {
		w.revive()
		w.process.fuse.Store(0)
		w.connect()
		<-time.After(4 * time.Minute) // longer than any hang, and than max_on
		synctest.Wait()
	}
	w.checkGone()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range contractOutputs {
		if c.Refresh > 0 && w.level[c.Name] != output.Off {
			w.t.Errorf("%s is on, and no order has come for minutes", c.Name)
		}
	}
	if len(w.queue) > 0 {
		w.t.Errorf("%d messages were never acknowledged: %s", len(w.queue), w.queue[0].text)
	}
}

// end ends the last process.
func (w *world) end() {
	w.process.dead.Store(true)
	w.process.stop()
}
