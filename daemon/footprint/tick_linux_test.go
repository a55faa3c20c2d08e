package footprint

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
)

// What a tick takes, in counts that depend on the program and hardly on the machine. Ten
// sensors on two buses are read once a second. Their readings are appended to the spool at
// once, and go to the broker in one TLS record.
//
// A busy machine may split a tick now and then: two buses that do not end at the same time,
// acknowledgements that come one by one. So the limits are well above what is usual, and
// below what it was when each sensor was read by itself.
func TestCountsOfATick(t *testing.T) {
	countTicks(t, 1, ofTenSensors)
}

// ofTenSensors is what a tick of ten sensors may take.
var ofTenSensors = tickCounts{
	records:     2,  // 1 is usual
	appends:     2,  // to the spool; 1 is usual
	writes:      7,  // 4: the TLS record, and the risk file when readings are appended, sent and acknowledged
	reads:       9,  // 4: PUBACKs, that there are no more, and the timer twice
	switches:    20, // 3 to 8: a wake-up each to begin, to read and send, and for PUBACKs
	allocations: 20, // 12 to 16 a reading, of which 4 are the simulated chips'
}

// Fifty sensors on ten buses take hardly more wake-ups, appends and writes than ten on two.
func TestCountsOfATickOfFiftySensors(t *testing.T) {
	countTicks(t, 5, tickCounts{records: 4, appends: 4, writes: 16, reads: 30, switches: 50, allocations: 20})
}

// tickCounts is what one tick may take at most; allocations are for each reading.
type tickCounts struct {
	records, appends, writes, reads, switches, allocations float64
}

// countTicks runs a daemon with sets of ten sensors, each read once a second, and counts what
// some ticks take.
func countTicks(t *testing.T, sets int, most tickCounts) {
	t.Helper()
	const start, ticks = 2, 5 // the start is no tick
	sensors := 10 * sets
	s := daemontest.NewSite(t, nil)
	proxy := newRecordCounter(t, s.Addr)
	p := startChild(t, s, childPlan{endpoint: proxy.addr, every: time.Second, sets: sets, counts: "readings", marks: []int{start * sensors, (start + ticks) * sensors}})
	tickCount{p, proxy, sensors, ticks, most}.check(t)
}

// tickCount is a daemon of which ticks are counted: those between its next two marks.
type tickCount struct {
	process
	proxy   *recordCounter
	sensors int
	ticks   float64
	most    tickCounts
}

func (c tickCount) check(t *testing.T) {
	t.Helper()
	allocated, appends := c.mark()
	records, writes, reads, woken, cpu := c.proxy.records.Load(), c.number("io", "syscw"), c.number("io", "syscr"), c.switches(), c.cpu()
	allocatedThen, appendsThen := c.mark()
	perTick := func(n int64) float64 { return float64(n) / c.ticks }
	for _, x := range []struct {
		what string
		got  float64
		most float64
	}{
		{"TLS records", perTick(c.proxy.records.Load() - records), c.most.records},
		{"appends to the spool", perTick(int64(appendsThen - appends)), c.most.appends},
		{"writes", perTick(c.number("io", "syscw") - writes), c.most.writes},
		{"reads", perTick(c.number("io", "syscr") - reads), c.most.reads},
		{"thread switches", perTick(c.switches() - woken), c.most.switches},
		{"allocations", perTick(int64(allocatedThen - allocated)), c.most.allocations * float64(c.sensors)},
	} {
		t.Logf("a tick: %.1f %s", x.got, x.what)
		if x.got > x.most {
			t.Errorf("a tick takes %.1f %s, want %.0f at most", x.got, x.what, x.most)
		}
	}
	t.Logf("a tick: %.2f ms CPU", (c.cpu()-cpu).Seconds()*1e3/c.ticks)
}

// recordCounter passes connections on to a broker and counts the TLS records of
// application data that are sent there.
type recordCounter struct {
	addr    string
	records atomic.Int64
}

func newRecordCounter(t *testing.T, broker string) *recordCounter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &recordCounter{addr: l.Addr().String()}
	var copies sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		copies.Wait()
	})
	copies.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", broker)
			if err != nil {
				in.Close()
				continue
			}
			copies.Go(func() {
				defer out.Close()
				c.count(out, in)
			})
			copies.Go(func() {
				defer in.Close()
				_, _ = io.Copy(in, out)
			})
		}
	})
	return c
}

// count copies TLS records until the sender has ended; RFC 8446, section 5.1.
func (c *recordCounter) count(to io.Writer, from io.Reader) {
	const applicationData = 23
	for {
		header := make([]byte, 5)
		if _, err := io.ReadFull(from, header); err != nil {
			return
		}
		if header[0] == applicationData {
			c.records.Add(1)
		}
		body := make([]byte, binary.BigEndian.Uint16(header[3:]))
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if _, err := to.Write(append(header, body...)); err != nil {
			return
		}
	}
}
