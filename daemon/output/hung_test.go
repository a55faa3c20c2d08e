package output

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// slowBoard is a board whose outputs wait for free in every Set.
type slowBoard struct {
	*sim.Board
	free chan struct{} // nil: they do not wait
}

type slowOutput struct {
	board.Output
	b *slowBoard
}

func (b *slowBoard) Output(c board.OutputConfig) (board.Output, error) {
	o, err := b.Board.Output(c)
	return &slowOutput{o, b}, err
}

func (o *slowOutput) Set(active bool) error {
	if o.b.free != nil {
		<-o.b.free
	}
	return o.Output.Set(active)
}

// An order whose call into the kernel hangs is told, as its output's timers
// cannot act meanwhile; also when it succeeds after all.
func TestHungOrderIsAFault(t *testing.T) {
	for _, c := range []struct {
		what string
		end  error
		last []string
	}{
		{"and succeeds", nil, []string{"pump output_failed cleared"}},
		{"and fails", syscall.EIO, nil}, // it is still that fault
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &slowBoard{Board: sim.New()}
				n := openOn(t, b.Board, b, "", pump)
				defer n.run()()
				b.free = make(chan struct{})
				ended := make(chan error)
				go func() {
					_, err := n.bank.Do(Order{Output: "pump", Action: ActionOn})
					ended <- err
				}()
				n.after(hungAfter - time.Second)
				n.faulted()
				n.after(3 * time.Second)
				n.faulted("pump output_failed raised")
				b.Line("GPIO27").Fail(c.end)
				close(b.free)
				if err := <-ended; (err == nil) != (c.end == nil) {
					t.Errorf("the order: %v", err)
				}
				n.after(2 * time.Second)
				n.faulted(c.last...)
				b.Line("GPIO27").Fail(nil)
			})
		})
	}
}

// A chip that vanishes under an order while the record is written: for the
// race detector.
func TestChipVanishesWhileRecording(t *testing.T) {
	b := sim.New()
	path := filepath.Join(t.TempDir(), "away", "outputs")
	n := openOn(t, b, b, path, pump, Config{Name: "fan", Pin: "GPIO5"})
	b.Line("GPIO27").Fail(syscall.ENODEV)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Go(func() { n.bank.keeper.record(time.Now()) })
	both.Go(func() {
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); err == nil {
			t.Error("an order to a chip that is gone succeeded")
		}
	})
	both.Wait()
	lines, err := Recorded(path)
	if err != nil || len(lines) == 0 || lines[len(lines)-1].Output != "fan" {
		t.Errorf("recorded %+v, %v; want at least the fan", lines, err)
	}
}
