package board

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A panic in the goroutine that reads a line's edges is an error of the line's, and ends
// no process.
func TestPanicInEdges(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	in := &inputLine{kernel: charDev{}, file: os.NewFile(uintptr(p[0]), "line"), ended: make(chan struct{}), quit: make(chan struct{})} // without a queue
	go in.follow()
	if _, err := unix.Write(p[1], make([]byte, eventSize)); err != nil {
		t.Fatal(err)
	}
	<-in.ended
	_, err := in.Active()
	var panicked *PanicError
	if !errors.As(err, &panicked) || !strings.Contains(err.Error(), "its edges have ended: driver panicked") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(in.file.Close(), unix.Close(p[1])); err != nil {
		t.Error(err)
	}
}
