package sensors

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/sim"
)

// bulkFile stands in for therm_bulk_read: a write takes as long as a conversion. A file of
// a real /sys is covered by deploy/vm.
type bulkFile struct {
	lasts  time.Duration
	err    error
	began  func() // called at each write
	writes int
}

func (f *bulkFile) Write(p []byte) (int, error) {
	f.writes++
	if string(p) != "trigger\n" {
		return 0, fmt.Errorf("%q was written", p)
	}
	if f.began != nil {
		f.began()
	}
	timer := time.NewTimer(f.lasts)
	<-timer.C
	return len(p), f.err
}

func (f *bulkFile) Close() error { return nil }

// w1Probes opens n probes on one bus with a simulated therm_bulk_read. A read of w1_slave
// must not happen while the probes convert.
func w1Probes(t *testing.T, n int, power string, bulk *bulkFile) []*ds18b20Sensor {
	t.Helper()
	b := sim.New()
	b.SetRoot(t.TempDir())
	var all []*ds18b20Sensor
	for i := range n {
		number := fmt.Sprintf("28-%012x", i+1)
		if err := b.WriteW1(number, slave("91 01 4b 46 7f ff 0f 10 25", "YES", 25062)); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"conv_time": "750\n", "ext_power": power} {
			if err := os.WriteFile(filepath.Join(b.Root(), "sys/devices/w1_bus_master1", number, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := ds18b20.Open(b, Config{Chip: "ds18b20", Options: DS18B20{number}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		all = append(all, s.(*ds18b20Sensor))
	}
	all[0].member.bus.open = func(string) (io.WriteCloser, error) { return bulk, nil }
	return all
}

// senseAll reads all probes at once and returns the number of files that were read.
func senseAll(t *testing.T, all []*ds18b20Sensor) int {
	t.Helper()
	var mu sync.Mutex
	var wait sync.WaitGroup
	reads := 0
	for _, s := range all {
		s.f.text = func(path string) (string, error) {
			mu.Lock()
			reads++
			mu.Unlock()
			return readKernel(path)
		}
		wait.Go(func() {
			if f, err := s.Sense(); err != nil || f[0].Value != 25.062 {
				t.Errorf("%s: %v, %v", s.f.where, f, err)
			}
		})
	}
	wait.Wait()
	return reads
}

// All probes of a bus convert at once, in the time of one conversion.
func TestDS18B20ConvertTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bulk := &bulkFile{lasts: 750 * time.Millisecond}
		all := w1Probes(t, 12, "1\n", bulk)
		for pass := 1; pass <= 2; pass++ {
			begin := time.Now()
			if reads := senseAll(t, all); reads != len(all) || bulk.writes != pass {
				t.Errorf("pass %d: %d files read, %d conversions", pass, reads, bulk.writes)
			}
			if took := time.Since(begin); took != bulk.lasts {
				t.Errorf("pass %d took %v", pass, took)
			}
		}
	})
}

// A conversion does not begin while a value is read, and no value is read meanwhile: the
// kernel's file is empty then.
func TestDS18B20ReadsBetweenConversions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []*ds18b20Sensor
		bulk := &bulkFile{lasts: 750 * time.Millisecond, began: func() {
			if all[0].member.bus.reading.TryRLock() {
				t.Error("a value may be read during the conversion")
				all[0].member.bus.reading.RUnlock()
			}
		}}
		all = w1Probes(t, 2, "1\n", bulk)
		senseAll(t, all)
		if !all[0].member.bus.reading.TryLock() {
			t.Error("the bus is held after the readings")
		}
	})
}

// Each probe converts by itself, after the value of another conversion was dropped, where
// the shared one failed or was interrupted by a signal.
func TestDS18B20ConvertAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name          string
			bulk          bulkFile
			probes        int
			power         string
			writes, reads int
		}{
			{"interrupted", bulkFile{lasts: 700 * time.Millisecond}, 2, "1\n", 1, 4},
			{"failed", bulkFile{lasts: time.Second, err: errors.New("EIO")}, 2, "1\n", 1, 4},
			{"the only one", bulkFile{lasts: time.Second}, 1, "1\n", 0, 2},
			{"no supply of their own", bulkFile{lasts: time.Second}, 2, "0\n", 0, 4},
		} {
			all := w1Probes(t, c.probes, c.power, &c.bulk)
			// the kernel's mark after a conversion that nobody has read
			if err := os.WriteFile(filepath.Join(all[0].member.bus.dir, "therm_bulk_read"), []byte("1\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if reads := senseAll(t, all); reads != c.reads || c.bulk.writes != c.writes {
				t.Errorf("%s: %d files read, %d conversions, want %d and %d", c.name, reads, c.bulk.writes, c.reads, c.writes)
			}
		}
	})
}

// Where the file may not be written, nobody waits for anybody.
func TestDS18B20MayNotConvertTogether(t *testing.T) {
	bulk := &bulkFile{}
	all := w1Probes(t, 3, "1\n", bulk)
	all[0].member.bus.open = openBulk // there is no such file
	if reads := senseAll(t, all); reads != 3 || bulk.writes != 0 {
		t.Errorf("%d files read, %d conversions", reads, bulk.writes)
	}
}

// A bus is forgotten with its last probe, and a probe leaves once.
func TestW1BusIsLeft(t *testing.T) {
	all := w1Probes(t, 2, "1\n", &bulkFile{})
	bus := all[0].member.bus
	for range 2 {
		if err := all[0].Close(); err != nil {
			t.Error(err)
		}
	}
	if bus.powered != 1 || w1Buses.all[bus.dir] != bus {
		t.Errorf("%d probes after one of two was closed", bus.powered)
	}
	_ = all[1].Close()
	if w1Buses.all[bus.dir] != nil {
		t.Error("the bus is kept without a probe")
	}
}
