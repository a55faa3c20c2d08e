package output

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/journal/journaltest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
)

// panickingLevels is a journal of levels whose disk panics.
type panickingLevels struct{ journaltest.Storage }

func (*panickingLevels) Rewrite(iter.Seq[[]byte]) error { panic("a mistake of the disk's") }

// reconfigureInVain gives the bank other outputs, of which some are not there in time.
func (n *harness) reconfigureInVain(outputs ...Config) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Second)
	defer cancel()
	if _, err := n.bank.Reconfigure(ctx, outputs); !errors.Is(err, context.DeadlineExceeded) {
		n.t.Errorf("reconfigure: %v", err)
	}
}

// A panic of any goroutine of the bank's is told to whoever has started the bank, who can
// then make all lines safe: it ends no process, and leaves no line locked.
func TestPanicOfAGoroutine(t *testing.T) {
	fan := Config{Name: "fan", Pin: "GPIO5", Initial: InitialOn}
	for name, c := range map[string]struct {
		told   string
		change func(o *Options, armed *atomic.Bool)
		cause  func(n *harness)
	}{
		"events": {"outputs: output events: ", func(o *Options, armed *atomic.Bool) {
			o.Event = func(message.Record) {
				if armed.Swap(false) {
					panic("a mistake in the spool")
				}
			}
		}, func(n *harness) { n.after(time.Minute) }}, // the pump's max_on
		"levels": {"outputs: output levels: ", func(o *Options, _ *atomic.Bool) { o.Levels = new(panickingLevels) },
			func(n *harness) { n.do("last", ActionOn, 0) }},
		"recorder": {"outputs: output recorder: ", func(o *Options, armed *atomic.Bool) {
			o.Record, o.write = "record", func(string, []Line) error {
				if armed.Swap(false) {
					panic("a mistake of the disk's")
				}
				return nil
			}
		}, func(n *harness) { n.reconfigureInVain(pump, fan, Config{Name: "new", Pin: "GPIO6"}) }},
		"timers":  {"outputs ended: ", nil, func(n *harness) { n.after(time.Minute) }},
		"removal": {"outputs: output removal: ", nil, func(n *harness) { n.reconfigureInVain(fan) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, armed := newBoard(), new(atomic.Bool)
				limited := pump
				limited.MaxOn = 30 * time.Second
				o := Options{Board: s, Outputs: []Config{limited, fan, {Name: "last", Pin: "GPIO13", Initial: InitialLast}}}
				if c.change != nil {
					c.change(&o, armed)
				} else {
					s.BeforeSet(func(line string, active bool) {
						if line == "GPIO27" && !active && armed.Swap(false) {
							panic("a mistake of the driver's")
						}
					})
				}
				n := openWith(t, s, o)
				failed := make(chan error, 1)
				running := task.Start("outputs", failed, n.bank.Run)
				synctest.Wait()
				n.do("pump", ActionOn, 0)
				synctest.Wait()
				armed.Store(true)
				c.cause(n)
				synctest.Wait()
				select {
				case err := <-failed:
					if !errors.Is(err, task.ErrPanicked) || !strings.HasPrefix(err.Error(), c.told) {
						t.Errorf("told %v", err)
					}
				default:
					t.Error("nobody was told")
				}
				if err := task.Within(time.Second, "make outputs safe", func() error { return n.bank.Safe(CauseStop) }); err != nil {
					t.Error(err)
				}
				n.wantWire("GPIO27", Off)
				n.wantWire("GPIO5", Off)
				n.wantWire("GPIO13", Off)
				if err := running.Stop(time.Second); !errors.Is(err, task.ErrPanicked) || !running.Ended() {
					t.Errorf("ended with %v", err)
				}
				_ = n.bank.Close() // a line that the removal has left behind is safe
			})
		})
	}
}

// A driver that panics whenever it is asked to make a line safe keeps no other line from
// being made safe, and its line is named.
func TestPanicInSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		n := open(t, s, Config{Name: "first", Pin: "GPIO5"}, pump, Config{Name: "third", Pin: "GPIO6"})
		for _, name := range []string{"first", "pump", "third"} {
			n.do(name, ActionOn, 0)
		}
		s.BeforeSet(func(line string, _ bool) {
			if line == "GPIO27" {
				panic("a mistake of the driver's")
			}
		})
		err := n.bank.Safe(CauseStop)
		var failed *FailedError
		if !errors.As(err, &failed) || failed.Output != "pump" || !errors.Is(err, task.ErrPanicked) {
			t.Errorf("got %v", err)
		}
		n.wantWire("GPIO5", Off)
		n.wantWire("GPIO6", Off)
		s.BeforeSet(nil)
		if err := n.bank.Safe(CauseStop); err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO27", Off)
	})
}
