//go:build chaos

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// This file and its neighbour replace machine.go when fieldpost is built with
// -tags chaos, for `make chaos`: a simulated board replaces this machine's. It reports what happens to file descriptor 3, and takes commands for its clock and its faults from standard input. Everything else is the installed program.
//
// Each report is one line in one write, so that a kill loses none. Tabs separate the
// fields. mono is CLOCK_BOOTTIME in nanoseconds, and a run is the spool's id and the
// run's number, as in k7m2qx/7:
//
//	T  mono  kind sensor run seq message   taken: a reading or an edge
//	O  mono  message                       taken: another message
//	A  mono  kind sensor run seq message   acknowledged: a reading, an edge or a gap
//	L  mono  up|down code                  the link has changed
//	S  mono  how line on|off wall          a line gets a level now: "requested", "set", or "held" while no
//	                                       daemon runs; wall is the clock of the board in ns since 1970
//	C  mono                                the clock has the settings of the last command
//	H  mono  place what                    halted (see below); the goroutine does nothing more
//
// The commands:
//
//	clock OFF SYNCED BOOT   offset of the wall clock, whether it counts as synchronised, and the
//	                        boot id, - for this machine's; the first command, before the daemon is built
//	burst N                 move the six gates N times in all, as fast as edges are read
//	chatter RATE TIME       move the door RATE times a second for TIME
//	halt PLACE              halt at the next order that switches on: "act", before the line is set; "acted",
//	                        after that and before the result is recorded; "answer", after the result is on disk
type simulation struct {
	system clock.Clock
	events *os.File
	door   *sim.Line
	gates  []*sim.Line

	mu     sync.Mutex
	off    time.Duration
	synced bool
	boot   string // "" is the machine's own
	halt   string // where to halt; "" nowhere
}

// doorInterval is the time from one move of the door to the next.
const doorInterval = 90 * time.Millisecond

// simulate returns this process's only simulation.
var simulate = sync.OnceValues(func() (*simulation, error) {
	system, err := clock.System()
	if err != nil {
		return nil, fmt.Errorf("read clock: %w", err)
	}
	return &simulation{system: system, events: os.NewFile(3, "events")}, nil
})

// hold reports that a line is driven while no daemon runs.
var hold daemon.Hold = func(c board.OutputConfig) (*os.File, error) {
	r, err := simulate()
	if err != nil {
		return nil, err
	}
	id, err := sim.New().Find(c.Line)
	if err != nil {
		return nil, err
	}
	r.level("held", id.Name, c.Active)
	return os.Open(os.DevNull)
}

// drivePWM drives nothing: the attack has no PWM outputs.
var drivePWM daemon.DrivePWM = func(board.PWMConfig) error { return nil }

// setMachine sets the simulated board and its clock in o.
func setMachine(o *daemon.Options) error {
	r, err := simulate()
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return errors.New("simulated board: no commands on standard input")
	}
	b := sim.New()
	r.door = b.Line("GPIO17")
	for n := range 6 {
		r.gates = append(r.gates, b.Line(fmt.Sprintf("GPIO%d", 5+n)))
	}
	if err := r.obey(in.Text()); err != nil {
		return err
	}
	b.SetMono(func() time.Duration { return r.Now().Mono })
	bus := b.AddBus("i2c-1")
	bus.AddBME280(0x76)
	for addr := range uint16(3) {
		bus.AddLM75(0x48+addr, 11)
	}
	go r.command(in)
	go r.press(context.Background())
	o.Board, o.Clock = reportingBoard{b, r}, r
	thing := o.Config.Thing
	o.Taken = func(rec message.Record) { r.taken(thing, rec) }
	o.Acked = func(rec message.Record) { r.acked(thing, rec) }
	o.Linked = r.linked()
	return nil
}

// command carries out the commands on standard input. When it ends, so has the process
// that gives them, and this one exits.
func (r *simulation) command(in *bufio.Scanner) {
	for in.Scan() {
		if err := r.obey(in.Text()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			break
		}
	}
	os.Exit(exitFailed)
}

func (r *simulation) obey(line string) error {
	wrong := fmt.Errorf("simulated board: command %q is not understood", line)
	switch f := strings.Fields(line); {
	case len(f) == 4 && f[0] == "clock":
		off, err := time.ParseDuration(f[1])
		synced, bad := strconv.ParseBool(f[2])
		if err != nil || bad != nil {
			return wrong
		}
		r.mu.Lock()
		r.off, r.synced, r.boot = off, synced, strings.TrimPrefix(f[3], "-")
		r.mu.Unlock()
		r.say("C")
	case len(f) == 2 && f[0] == "halt":
		r.mu.Lock()
		defer r.mu.Unlock()
		r.halt = f[1]
	case len(f) == 2 && f[0] == "burst":
		n, err := strconv.Atoi(f[1])
		if err != nil {
			return wrong
		}
		go r.burst(n)
	case len(f) == 3 && f[0] == "chatter":
		changes, err := strconv.ParseFloat(f[1], 64)
		long, bad := time.ParseDuration(f[2])
		if err != nil || bad != nil {
			return wrong
		}
		go r.chatter(changes, long)
	default:
		return wrong
	}
	return nil
}

// Now is the board's clock.
func (r *simulation) Now() clock.Stamp {
	s := r.system.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Wall, s.Synced = s.Wall.Add(r.off), r.synced
	if r.boot != "" {
		s.Boot = r.boot
	}
	return s
}

// press opens and closes the door now and then.
func (r *simulation) press(ctx context.Context) {
	tick := time.NewTicker(doorInterval)
	defer tick.Stop()
	for high := false; ; high = !high {
		r.door.Drive(high)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// burst moves the gates as fast as their edges can be read without losing any.
func (r *simulation) burst(n int) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		r.gates[i%len(r.gates)].Drive(i/len(r.gates)%2 == 0)
		if i%16 == 15 {
			<-tick.C
		}
	}
}

// chatter makes the door chatter.
func (r *simulation) chatter(changes float64, long time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	r.door.Chatter(ctx, changes)
}

// say reports an event.
func (r *simulation) say(what string, fields ...any) {
	line := fmt.Appendf(nil, "%s\t%d", what, r.Now().Mono)
	for _, f := range fields {
		line = fmt.Appendf(line, "\t%v", f)
	}
	line = append(line, '\n')
	if n, err := r.events.Write(line); err != nil || n < len(line) {
		os.Exit(exitFailed) // the reader has ended
	}
}

// haltAt halts for ever if a command asked for it at this place.
func (r *simulation) haltAt(place, what string) {
	r.mu.Lock()
	here := r.halt == place
	r.mu.Unlock()
	if here {
		r.say("H", place, what)
		select {}
	}
}

func (r *simulation) taken(thing string, rec message.Record) {
	if rec.Seq > 0 {
		r.say("T", numbered(thing, rec)...)
		return
	}
	r.say("O", string(message.Encode(thing, rec)))
	if rec.Kind != message.Answer {
		return
	}
	said := map[string]any{}
	for _, f := range rec.Fields {
		said[f.Name] = f.Value
	}
	if said["status"] == "done" && said["state"] == "on" {
		r.haltAt("answer", fmt.Sprint(said["id"]))
	}
}

func (r *simulation) acked(thing string, rec message.Record) {
	if rec.Seq > 0 || rec.Kind == message.Gap {
		r.say("A", numbered(thing, rec)...)
	}
}

func numbered(thing string, rec message.Record) []any {
	return []any{rec.Kind, rec.Sensor, fmt.Sprintf("%s/%d", rec.Source.Spool, rec.Run), rec.Seq, string(message.Encode(thing, rec))}
}

func (r *simulation) linked() func(uplink.Status) {
	last := ""
	return func(s uplink.Status) {
		now, code := "down", "-"
		if s.Connected {
			now = "up"
		}
		var e *uplink.Explained
		if errors.As(s.Err, &e) {
			code = e.Code
		}
		if now+code != last {
			last = now + code
			r.say("L", now, code)
		}
	}
}
