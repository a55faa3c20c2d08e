//go:build chaos && linux

package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/sim"
)

// chaosChild names, in the environment, the configuration of the daemon that
// this program is to be while chaos is made.
const chaosChild = "FIELDPOST_CHAOS_CHILD"

const chaosThing = "thing-chaos"

func init() {
	path := os.Getenv(chaosChild)
	if path == "" {
		return
	}
	if err := suffer(path); err != nil {
		fmt.Fprintln(os.Stderr, "daemon:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// suffer is a daemon on a simulated board, until SIGTERM. What the board gave
// goes down file descriptor 3, before the spool has it, and what the broker
// acknowledged too: one line each, in one write, so that nothing is lost when
// the process is killed. A line is fields between tabs:
//
//	R  mono  run                          the daemon is built
//	T  mono  kind sensor run seq message  taken: a reading or an edge
//	O  mono  message                      taken: another message
//	A  mono  kind sensor run seq message  acknowledged: a reading, an edge or a gap
//	L  mono  up|down code                 the link has changed
//
// What comes on standard input steps its wall clock: how far it is off.
func suffer(path string) error {
	var off atomic.Int64
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if d, err := time.ParseDuration(in.Text()); err == nil {
				off.Store(int64(d))
			}
		}
		os.Exit(1) // the test that started it has ended, however it did
	}()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	now, err := clock.System()
	if err != nil {
		return err
	}
	now = stepped(clock.Trusted(now), &off)
	w := witness{pipe: os.NewFile(3, "books"), clock: now}
	b := chaosBoard(now)
	d, err := daemon.New(daemon.Options{
		Config: cfg, Board: b, Clock: now, Notify: &systemd.Notifier{}, Version: "chaos",
		Log: systemd.NewLogger(os.Stderr, slog.LevelDebug), Taken: w.taken, Acked: w.acked, Linked: w.linked(),
	})
	if err != nil {
		return err
	}
	w.say("R", cfg.Thing)
	finger := make(chan struct{})
	go func() {
		defer close(finger)
		press(ctx, b.Line("GPIO17"))
	}()
	err = d.Run(ctx)
	cancel()
	<-finger
	return err
}

// stepped is c with its wall clock off by so many nanoseconds.
func stepped(c clock.Clock, off *atomic.Int64) clock.Clock {
	return clock.Func(func() clock.Stamp {
		s := c.Now()
		s.Wall = s.Wall.Add(time.Duration(off.Load()))
		return s
	})
}

// chaosBoard is the board that chaosConfig describes.
func chaosBoard(now clock.Clock) *sim.Board {
	b := sim.New()
	b.SetMono(func() time.Duration { return now.Now().Mono })
	bus := b.AddBus("i2c-1")
	bus.AddBME280(0x76)
	for addr := range uint16(3) {
		bus.AddLM75(0x48+addr, 11)
	}
	return b
}

const chaosConfig = `thing: %s
broker: {endpoint: %s}
readings: {%s}
commands: {topic: test/topic/commands, answers: test/topic/answers}
spool: {dir: spool, at_risk: %s}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 50ms}
  - {name: soil-0, chip: lm75, bus: i2c-1, address: 0x48, every: 50ms}
  - {name: soil-1, chip: lm75, bus: i2c-1, address: 0x49, every: 50ms}
  - {name: soil-2, chip: lm75, bus: i2c-1, address: 0x4a, every: 50ms}
  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true}
outputs:
  - {name: pump, pin: GPIO27, initial: off, safe: off}
`

// press opens and closes the door.
func press(ctx context.Context, door *sim.Line) {
	tick := time.NewTicker(90 * time.Millisecond)
	defer tick.Stop()
	for high := false; ; high = !high {
		door.Drive(high)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// witness writes down what happens in the child.
type witness struct {
	pipe  io.Writer
	clock clock.Clock
}

func (w witness) say(what, text string) {
	line := fmt.Appendf(nil, "%s\t%d\t%s\n", what, w.clock.Now().Mono, text)
	if n, err := w.pipe.Write(line); err != nil || n < len(line) {
		os.Exit(3) // nobody listens any more
	}
}

func (w witness) taken(r spool.Record) {
	if r.Seq == 0 {
		w.say("O", string(spool.Encode(chaosThing, r)))
		return
	}
	w.say("T", numbered(r))
}

func (w witness) acked(r spool.Record) {
	if r.Seq > 0 || r.Kind == spool.Gap {
		w.say("A", numbered(r))
	}
}

func numbered(r spool.Record) string {
	return fmt.Sprintf("%s\t%s\t%d\t%d\t%s", r.Kind, r.Sensor, r.Run, r.Seq, spool.Encode(chaosThing, r))
}

func (w witness) linked() func(uplink.Status) {
	last := ""
	return func(s uplink.Status) {
		now := "down"
		if s.Connected {
			now = "up"
		}
		var e *uplink.Explained
		if errors.As(s.Err, &e) {
			now += "\t" + e.Code
		} else {
			now += "\t-"
		}
		if now != last {
			last = now
			w.say("L", now)
		}
	}
}
