package sampler

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// onBoard runs a Sampler of the catalog's chips on a simulated board.
func onBoard(t *testing.T, b *sim.Board, configs ...sensors.Config) *rig {
	t.Helper()
	start := time.Now()
	b.SetMono(func() time.Duration { return time.Since(start) })
	return runCatalog(t, Options{Board: b, Run: 7}, sensors.Lookup, configs...)
}

var (
	air  = sensors.Config{Name: "air", Chip: "bme280", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1", Address: 0x76}}
	near = sensors.Config{Name: "near", Chip: "tmp102", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1", Address: 0x48}}
	gate = sensors.Config{Name: "door", Chip: "gpio", Every: time.Minute, Options: sensors.GPIO{Pin: "GPIO17", Pull: board.PullUp, ActiveLow: true}}
)

// A chip that was unplugged and plugged in again has forgotten its settings:
// the driver constructed again sets it up.
func TestUnpluggedChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		chip := bus.AddBME280(0x76)
		bus.AddTMP102(0x48)
		chip.SetTemperature(21.5)
		r := onBoard(t, b, air, near)
		pass(5 * time.Second)
		chip.Fault(sim.NACK)
		pass(60 * time.Second)
		chip.PowerCycle()
		chip.SetTemperature(8)
		chip.Fault(sim.Healthy)
		pass(40 * time.Second)
		same(t, "faults", changed(r), []string{"air no_answer raised", "air no_answer cleared"})
		first, last := fieldsOf(r, "air")
		if got := first["temperature"].(float64); got < 21.4 || got > 21.6 {
			t.Errorf("first temperature is %v", got)
		}
		if got := last["temperature"].(float64); got < 7.9 || got > 8.1 {
			t.Errorf("last temperature is %v, want the one after the power cut", got)
		}
		if n := strings.Count(strings.Join(r.got(), "\n"), "near reading"); n != 11 {
			t.Errorf("the neighbour was read %d times in 105s, want 11", n)
		}
		r.stop()
	})
}

// A chip that is exchanged for another, with whatever went wrong meanwhile,
// gives the values of the air and never those of the other's calibration.
func TestExchangedChip(t *testing.T) {
	for _, f := range []struct {
		fault  sim.Fault
		times  int
		faults []string
	}{
		{sim.Healthy, 0, nil},
		{sim.NACK, 1, nil},
		{sim.NACK, 2, []string{"air no_answer raised", "air no_answer cleared"}},
		{sim.EIO, 1, nil},
		{sim.Ones, 3, []string{"air wrong_answer raised", "air wrong_answer cleared"}},
		{sim.Timeout, 1, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			chip := b.AddBus("i2c-1").AddBME280(0x76)
			r := onBoard(t, b, air)
			pass(5 * time.Second)
			for range 3 {
				chip.Exchange()
				chip.FaultNext(f.times, f.fault)
				pass(20 * time.Second)
			}
			want := f.faults
			if want != nil {
				want = slices.Repeat(want, 3)
			}
			same(t, "faults", changed(r), want)
			r.stop()
			if len(r.records) < 7 {
				t.Errorf("fault %d: %d readings in 65s, want 7", f.fault, len(r.records))
			}
			for _, rec := range r.records {
				if celsius := rec.Fields[0].Value.(float64); celsius < 19.98 || celsius > 20.02 {
					t.Errorf("fault %d: %v at %v, want 20", f.fault, rec.Fields, rec.Stamp.Mono)
				}
			}
		})
	}
}

// An adapter on USB is unplugged: the kernel has it out of our hands at once where
// readings are far apart, and otherwise with the next one. It comes back, under the
// same number or another, with a chip that has just got its power, and is read
// again without a restart.
func TestUnpluggedBus(t *testing.T) {
	for _, c := range []struct {
		every time.Duration
		bus   string
		back  string
		held  int // handles while nothing is read
	}{
		{10 * time.Second, "i2c-7", "i2c-7", 0},
		{10 * time.Second, "CH341", "i2c-8", 0},
		{time.Second, "i2c-7", "i2c-7", 2},
		{time.Second, "CH341", "i2c-8", 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			bus := b.AddBus("i2c-7")
			bus.SetAdapter("i2c-ch341-usb at bus 001 device 004")
			bus.AddBME280(0x76)
			bus.AddTMP102(0x48)
			one, other := air, near
			one.Options, other.Options = sensors.I2C{Bus: c.bus, Address: 0x76}, sensors.I2C{Bus: c.bus, Address: 0x48}
			one.Every, other.Every = c.every, c.every
			r := onBoard(t, b, one, other)
			pass(20*time.Second + 500*time.Millisecond)
			if n := bus.Handles(); n != c.held {
				t.Errorf("%+v: %d handles between readings", c, n)
			}
			b.Unplug(bus)
			pass(c.every + 500*time.Millisecond)
			if n := bus.Handles(); n != 0 {
				t.Errorf("%+v: %d handles on an adapter that is gone", c, n)
			}
			same(t, "faults", sorted(changed(r)), []string{"air absent raised", "near absent raised"})
			b.Plug(bus, c.back)
			pass(2 * c.every)
			if now := r.s.o.Health.Current(); len(now) != 0 {
				t.Errorf("%+v: still wrong: %+v", c, now)
			}
			r.stop()
			if n := bus.Handles(); n != 0 {
				t.Errorf("%+v: %d handles after the end", c, n)
			}
			for _, rec := range r.records {
				if celsius := rec.Fields[0].Value.(float64); celsius < 19.98 || celsius > 20.02 {
					t.Errorf("%+v: %v of %s", c, rec.Fields, rec.Sensor)
				}
			}
		})
	}
}

// The bus hangs, on the board and not in a fake; then it is let go.
func TestStuckBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		bus.AddBME280(0x76)
		bus.AddTMP102(0x48)
		r := onBoard(t, b, air, near, gate)
		pass(5 * time.Second)
		bus.Stick()
		pass(30 * time.Second)
		b.Line("GPIO17").Drive(false)
		pass(time.Second)
		if got := strings.Join(changed(r), ", "); !strings.Contains(got, "i2c-1 bus_stuck raised") || strings.Contains(got, "door") {
			t.Errorf("faults are %s", got)
		}
		if got := r.got(); !strings.HasSuffix(got[len(got)-1], "door edge 2") {
			t.Errorf("the line has stopped with the bus: %q", got)
		}
		bus.Release()
		pass(15 * time.Second)
		if now := r.s.o.Health.Current(); len(now) != 0 {
			t.Errorf("still wrong: %+v", now)
		}
		r.stop()
	})
}

// A wire that is shorted: the kernel gives up on every transaction. That is the
// bus, and the sensors on it come back together.
func TestShortedBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		bus.AddBME280(0x76)
		bus.AddTMP102(0x48)
		r := onBoard(t, b, air, near)
		pass(5 * time.Second)
		bus.Fault(syscall.ETIMEDOUT)
		pass(60 * time.Second)
		same(t, "faults", sorted(changed(r)), []string{"air read_failed raised", "i2c-1 bus_stuck raised", "near read_failed raised"})
		for _, c := range r.s.o.Health.Current() {
			if want := "transactions time out, for air, near"; c.Subject == "i2c-1" && c.Detail != want {
				t.Errorf("detail is %q, want %q", c.Detail, want)
			}
		}
		bus.Fault(nil)
		pass(time.Minute) // the longest backoff
		if now := r.s.o.Health.Current(); len(now) != 0 {
			t.Errorf("still wrong: %+v", now)
		}
		mended := r.faults()[3:]
		first, err1 := time.ParseDuration(strings.Fields(mended[0])[0])
		last, err2 := time.ParseDuration(strings.Fields(mended[2])[0])
		if err1 != nil || err2 != nil || last-first > time.Second {
			t.Errorf("faults end at %q, want all within a second", mended)
		}
		r.stop()
	})
}

// One chip of two that hangs the bus when it is asked is that chip's fault.
func TestOneChipTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		chip := bus.AddBME280(0x76)
		bus.AddTMP102(0x48)
		r := onBoard(t, b, air, near)
		pass(5 * time.Second)
		chip.Fault(sim.Timeout)
		pass(60 * time.Second)
		same(t, "faults", changed(r), []string{"air read_failed raised"})
		r.stop()
	})
}

// Nothing but ones on the wire is no temperature.
func TestLooseWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := b.AddBus("i2c-1").AddBME280(0x76)
		r := onBoard(t, b, air)
		pass(5 * time.Second)
		chip.Fault(sim.Ones)
		pass(30 * time.Second)
		same(t, "faults", changed(r), []string{"air wrong_answer raised"})
		if n := len(r.got()); n != 1 {
			t.Errorf("%d readings, want the one before the fault", n)
		}
		r.stop()
	})
}

// What is not there is told apart: the bus, the chip on a bus, the line.
func TestWhatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1")
		b.Line("GPIO17").Hold("gpio-keys")
		nowhere := near
		nowhere.Name, nowhere.Options = "nowhere", sensors.I2C{Bus: "i2c-7", Address: 0x48}
		kernels := near
		kernels.Name, kernels.Options = "kernels", sensors.I2C{Bus: "i2c-1", Address: 0x49}
		b.AddBus("i2c-1").AddTMP102(0x49)
		b.AddBus("i2c-1").Own(0x49, "tmp102")
		r := onBoard(t, b, air, nowhere, gate, kernels)
		same(t, "faults", sorted(changed(r)), []string{"air no_answer raised", "door line_busy raised", "kernels address_owned raised", "nowhere absent raised"})
		b.AddBus("i2c-1").Own(0x49, "")
		pass(time.Minute)
		if got := changed(r); got[len(got)-1] != "kernels address_owned cleared" {
			t.Errorf("unbound: %q", got)
		}
		r.stop()
	})
}

// A door that is opened and closed: each change with its own time, the state
// every minute, all in one count.
func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		line := b.Line("GPIO17")
		r := onBoard(t, b, gate)
		pass(10 * time.Second)
		line.Drive(false)
		pass(20 * time.Second)
		line.Drive(true)
		pass(31 * time.Second)
		same(t, "records", r.got(), []string{"0s door reading 1", "10s door edge 2", "30s door edge 3", "1m0s door reading 4"})
		var levels []any
		for _, rec := range r.records {
			if rec.Fields[0].Name != "active" || (len(rec.Fields) == 2) != (rec.Kind == message.Edge) {
				t.Errorf("fields are %+v", rec.Fields)
				continue
			}
			levels = append(levels, rec.Fields[0].Value)
		}
		if len(levels) != 4 || levels[0] != false || levels[1] != true || levels[2] != false || levels[3] != false {
			t.Errorf("levels are %v", levels)
		}
		r.stop()
		line.Drive(false)
		synctest.Wait()
		if n := len(r.got()); n != 4 {
			t.Errorf("%d records after the end, want 4", n)
		}
	})
}
