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
// sensors on two buses that are read once a second go to the broker in two TLS records, as
// their conversions take longer than readings linger; a busy machine may need a third.
func TestRecordsOfATick(t *testing.T) {
	const ticks, most = 5, 3
	s := daemontest.NewSite(t, nil)
	proxy := newRecordCounter(t, s.Addr)
	heard := s.Listen("test-ear")
	p := startChild(t, s, childPlan{endpoint: proxy.addr, every: time.Second})
	for range 20 { // the start is no tick
		daemontest.Await(t, "reading", heard, isReading)
	}
	records, woken, cpu := proxy.records.Load(), p.switches(), p.cpu()
	for range 10 * ticks {
		daemontest.Await(t, "reading", heard, isReading)
	}
	n := proxy.records.Load() - records
	t.Logf("a tick: %.1f TLS records, %.1f thread switches, %.2f ms CPU", float64(n)/ticks, float64(p.switches()-woken)/ticks, (p.cpu()-cpu).Seconds()*1e3/ticks)
	if n > most*ticks {
		t.Errorf("%d TLS records for %d ticks, want %d a tick at most", n, ticks, most)
	}
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
