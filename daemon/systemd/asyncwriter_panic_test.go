package systemd

import (
	"testing"
	"time"
)

// A line that cannot be formatted or written without a panic is lost, and no later one.
func TestPanicInLine(t *testing.T) {
	a := newAsyncWriter(func(int) func() { return func() {} })
	a.patience = time.Minute
	written := make(chan struct{}, 1)
	a.writeLine(func() { panic("a mistake") })
	a.writeLine(func() { written <- struct{}{} })
	select {
	case <-written:
	default:
		t.Error("the next line was not written")
	}
}
