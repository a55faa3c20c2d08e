package sensors

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// w1Bus is a 1-Wire bus on which this process has open probes. It lets all of them
// convert at once: the kernel's driver w1_therm starts a conversion of the whole bus when
// `trigger` is written to therm_bulk_read, and the write returns after the longest
// conversion. Then each probe's value is read in some 10 ms.
//
// Source: Linux, drivers/w1/slaves/w1_therm.c, trigger_bulk_read and w1_slave_show. The
// driver creates therm_bulk_read for one bus only, the first that has a probe. While it
// converts, w1_slave is empty. It reports success even if no probe was there, and marks
// all values as new even if a signal has interrupted the conversion.
type w1Bus struct {
	dir  string
	open func(dir string) (io.WriteCloser, error) // openBulk, except in tests

	// reading is held while values are read, and exclusively during a conversion, because
	// the probes have no values then.
	reading sync.RWMutex

	mu        sync.Mutex
	powered   int       // open probes that can take part
	parasites int       // open probes that cannot
	running   *w1Shared // the conversion that has begun and not ended, or nil
}

// w1Shared is one conversion of all probes of a bus.
type w1Shared struct {
	ended  chan struct{}
	lasted time.Duration // 0: it failed. Valid after ended is closed.
}

// w1Buses are the buses that have open probes, by directory.
var w1Buses = struct {
	mu  sync.Mutex
	all map[string]*w1Bus
}{all: map[string]*w1Bus{}}

// w1Member is the part that one open probe has in its bus. Its methods may be called from
// any goroutine, but not at the same time.
type w1Member struct {
	bus *w1Bus
	// longest is the time of the probe's own conversion; 0 if it does not take part in
	// shared conversions.
	longest time.Duration
	left    bool
}

// joinW1 registers an open probe with its bus. A probe takes part in shared conversions if
// it has its own supply, and if the kernel's driver says how long it converts. Probes that
// draw their power from the data line would draw too much at once.
func joinW1(probe, bus string) *w1Member {
	m := &w1Member{}
	if ms, err := readKernel(filepath.Join(probe, "conv_time")); err == nil {
		if power, err := readKernel(filepath.Join(probe, "ext_power")); err == nil && power == "1" {
			n, _ := strconv.ParseUint(ms, 10, 16) // 0 takes no part
			m.longest = time.Duration(n) * time.Millisecond
		}
	}
	w1Buses.mu.Lock()
	defer w1Buses.mu.Unlock()
	if m.bus = w1Buses.all[bus]; m.bus == nil {
		m.bus = &w1Bus{dir: bus, open: openBulk}
		w1Buses.all[bus] = m.bus
	}
	m.bus.count(m.longest, 1)
	return m
}

// leave ends the probe's part. A second call does nothing.
func (m *w1Member) leave() {
	w1Buses.mu.Lock()
	defer w1Buses.mu.Unlock()
	if !m.left && m.bus.count(m.longest, -1) == 0 {
		delete(w1Buses.all, m.bus.dir)
	}
	m.left = true
}

// count adds n probes and returns how many there are now.
func (b *w1Bus) count(longest time.Duration, n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if longest > 0 {
		b.powered += n
	} else {
		b.parasites += n
	}
	return b.powered + b.parasites
}

// convert makes all probes of the bus convert, unless this process reads only one of them
// or may not write therm_bulk_read, and reports whether this probe has a new value. It
// waits for a conversion that has begun instead of starting another one. It may block for
// two conversions.
func (m *w1Member) convert() bool {
	b := m.bus
	b.mu.Lock()
	c := b.running
	if c == nil && b.powered > 1 && b.parasites == 0 {
		if file, err := b.open(b.dir); err == nil {
			c = &w1Shared{ended: make(chan struct{})}
			b.running = c
			b.mu.Unlock()
			b.run(c, file)
			return c.includes(m)
		}
	}
	b.mu.Unlock()
	if c == nil {
		return false
	}
	<-c.ended
	return c.includes(m)
}

// includes reports whether the probe has converted: a conversion that a signal has
// interrupted ended too early.
func (c *w1Shared) includes(m *w1Member) bool { return m.longest > 0 && c.lasted >= m.longest }

// run triggers a conversion, waits for its end and closes the file.
func (b *w1Bus) run(c *w1Shared, file io.WriteCloser) {
	b.reading.Lock()
	defer b.reading.Unlock()
	begin := time.Now()
	_, err := io.WriteString(file, "trigger\n")
	if errors.Join(err, file.Close()) == nil { // else each probe converts by itself
		c.lasted = time.Since(begin)
	}
	b.mu.Lock()
	b.running = nil
	b.mu.Unlock()
	close(c.ended)
}

// openBulk opens the file that starts a conversion of all probes of a bus.
func openBulk(bus string) (io.WriteCloser, error) {
	return os.OpenFile(filepath.Join(bus, "therm_bulk_read"), os.O_WRONLY, 0)
}
