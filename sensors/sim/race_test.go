package sim

import (
	"sync"
	"testing"

	"fieldpost/sensors/board"
)

// Everything at once, for the race detector: the world moves, chips break and
// mend, the process crashes, and drivers go on trying. What must hold in the
// end is that nothing is held and everything answers.
func TestAtOnce(t *testing.T) {
	b := New()
	bus := b.AddBus("i2c-1")
	chip := bus.AddBME280(0x76)
	thermometer := bus.AddTMP102(0x48)
	var all sync.WaitGroup
	forget := func(fn func(i int)) {
		all.Go(func() {
			for i := range 200 {
				fn(i)
			}
		})
	}
	forget(func(i int) { b.Line("GPIO17").Drive(i%2 == 0) })
	forget(func(i int) { b.Line("GPIO17").History(); b.Line("GPIO27").Level() })
	forget(func(i int) { chip.SetTemperature(float64(i % 80)); chip.FaultNext(i%3, Fault(i%4)) })
	forget(func(i int) { thermometer.SetTemperature(float64(i)); thermometer.PowerCycle() })
	forget(func(int) { b.Crash() })
	for range 2 {
		forget(func(int) {
			if in, err := b.Input(board.InputConfig{Line: "GPIO17", Pull: board.PullUp}); err == nil {
				in.Active() // an error once the crash has come
				drain(in)
				in.Close()
			}
		})
		forget(func(i int) {
			if o, err := b.Output(board.OutputConfig{Line: "GPIO27", Active: i%2 == 0}); err == nil {
				o.Set(i%2 == 1)
				o.Close()
			}
		})
		forget(func(int) {
			h, err := b.Bus("i2c-1")
			if err != nil {
				t.Error(err)
				return
			}
			id(h)
			h.Tx(0x48, []byte{1, 0x61, 0xA0}, nil)
			h.Close()
		})
	}
	all.Wait()
	chip.Fault(Healthy)
	if v, err := id(open(t, b, "i2c-1")); err != nil || v != idBME280 {
		t.Errorf("chip: %#x, %v", v, err)
	}
	for _, line := range []string{"GPIO17", "GPIO27"} {
		if o := request(t, b, board.OutputConfig{Line: line, Active: true}); o.ID().Name != line {
			t.Errorf("%s became %v", line, o.ID())
		}
	}
}
