package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/sensors/sim"
)

// If a daemon runs that does not say what it reads, no bus is probed. If none runs, all
// are.
func TestScanWithASilentDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	b := sim.New()
	bus := b.AddBus("i2c-1")
	bus.AddChip("bme280", 0x76)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	r := scanBoard(t.Context(), b, socket)
	if p := r.Buses[0].Problem; !strings.Contains(p, "is not probed, because a running daemon may use it") || bus.Transactions() > 0 {
		t.Errorf("%d transactions, %q", bus.Transactions(), p)
	}
	listener.Close()
	<-ended
	if r := scanBoard(t.Context(), b, socket); len(r.Buses[0].Found) != 1 {
		t.Errorf("without a daemon: %+v", r.Buses)
	}
}
