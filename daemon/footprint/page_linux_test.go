package footprint

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
)

// A page that nobody sees takes nothing: after somebody has looked at it and gone, a tick takes
// what it takes without a page.
func TestCountsOfATickWithAPage(t *testing.T) {
	const sensors, ticks = 10, 5
	s := daemontest.NewSite(t, nil)
	proxy := newRecordCounter(t, s.Addr)
	address := unusedAddress(t)
	var marks []int
	for n := range 60 {
		marks = append(marks, n*ticks*sensors+sensors)
	}
	p := startChild(t, s, childPlan{endpoint: proxy.addr, every: time.Second, counts: "readings", marks: marks, page: address})
	for range 3 { // there is something to do ten seconds after the start, too
		p.mark()
		marks = marks[1:]
	}
	for taken := look(t, address, 3); len(marks) > 0 && marks[0] <= taken+sensors; marks = marks[1:] {
		p.mark() // it is past, or about to be
	}
	tickCount{p, proxy, sensors, ticks, ofTenSensors}.check(t)
}

// look looks at the page until so many events have come, and returns how many readings the
// daemon has taken by then.
func look(t *testing.T, address string, events int) (taken int) {
	t.Helper()
	c := await(t, address)
	defer c.Close()
	if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for events > 0 && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		events--
		var s struct {
			Status struct {
				Spool struct{ Acknowledged, Waiting int }
			}
		}
		if err := json.Unmarshal([]byte(data), &s); err != nil {
			t.Fatal(err)
		}
		taken = s.Status.Spool.Acknowledged + s.Status.Spool.Waiting
	}
	if events > 0 {
		t.Fatalf("the events end: %v", lines.Err())
	}
	return taken
}

// await waits until something listens, and connects.
func await(t testing.TB, address string) net.Conn {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(daemontest.Patience); time.Now().Before(end); <-again.C {
		if c, err := net.Dial("tcp", address); err == nil {
			return c
		}
	}
	t.Fatal("nobody listens")
	return nil
}

// unusedAddress is an address of which the port was free a moment ago. Nobody else uses that
// loopback address, so nobody takes the port meanwhile.
func unusedAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// BenchmarkPage measures what a browser waits for on loopback until it has all that it shows
// first: the files of the page, one after the other, and the first event. And what a look at
// the page costs each second.
func BenchmarkPage(b *testing.B) {
	s := daemontest.NewSite(b, nil)
	address := unusedAddress(b)
	p := startChild(b, s, childPlan{every: time.Second, page: address})
	await(b, address).Close()
	for b.Loop() {
		c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
		for _, path := range []string{"/", "/uPlot.css", "/page.css", "/uPlot.js", "/page.js", "/icon.svg", "/session", "/state"} {
			r, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", "gzip")
			a, err := c.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, a.Body); err != nil || a.StatusCode != http.StatusOK {
				b.Fatal(path, a.Status, err)
			}
			a.Body.Close()
		}
		c.CloseIdleConnections()
	}
	aimed(b, b.Elapsed().Seconds()*1e3/float64(b.N), "view-ms", 300)
	before := p.cpu()
	c := await(b, address)
	defer c.Close()
	if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	const events = 5
	lines := bufio.NewReader(c)
	for got := 0; got < events; {
		line, err := lines.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		if strings.HasPrefix(line, "data: ") {
			got++
		}
	}
	aimed(b, (p.cpu()-before).Seconds()*1e3/events, "cpu-ms/s-seen", 3)
	b.ReportMetric(0, "ns/op")
}
