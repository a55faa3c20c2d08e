package output

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// handleBoard is a board with lines whose handles can be copied.
type handleBoard struct {
	*sim.Board
	t    *testing.T
	fail string // the line whose handle cannot be copied
}

type sharedOutput struct {
	board.Output
	b handleBoard
}

func (b handleBoard) Output(c board.OutputConfig) (board.Output, error) {
	o, err := b.Board.Output(c)
	if err != nil {
		return nil, err
	}
	return sharedOutput{o, b}, nil
}

func (o sharedOutput) Handle() (*os.File, error) {
	if o.ID().Name == o.b.fail {
		return nil, errors.New("too many open files")
	}
	return openFile(o.b.t, o.ID().Name), nil
}

// At a clean stop only the handles of safe lines are passed on: the store must never hold
// a line at another level.
func TestHandlesAreOfSafeLinesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		b := handleBoard{Board: s, t: t, fail: "GPIO6"}
		record := filepath.Join(t.TempDir(), "outputs")
		n := openOn(t, s, b, record, pump, Config{Name: "fan", Pin: "GPIO5"}, Config{Name: "lamp", Pin: "GPIO6"}, Config{Name: "gone", Pin: "no-such-line"})
		if err := n.bank.Safe(CauseStop); err != nil {
			t.Fatal(err)
		}
		s.Line("GPIO5").Fail(errors.New("broken"))
		_ = n.bank.Safe(CauseStop) // from here on the fan is not known to be safe
		handles, err := n.bank.Handles()
		if err == nil || !strings.Contains(err.Error(), `"lamp"`) || !strings.Contains(err.Error(), "too many open files") {
			t.Errorf("error %v, want lamp's", err)
		}
		if len(handles) != 1 || handles[0].Line.Output != "pump" || handles[0].Line.Safe != SafeOff {
			t.Fatalf("handles %+v, want pump's only", handles)
		}
		// The record says who has it, so that `fieldpost safe` does not complain.
		if err := MarkHeld(record, handles); err != nil {
			t.Fatal(err)
		}
		lines, err := Recorded(record)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if l.Held != (l.Output == "pump") {
				t.Errorf("%s: held %v", l, l.Held)
			}
		}
	})
}
