package local

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/api"
)

// Only the names and addresses that the configuration has may be asked for.
func TestHostsOfAnAddress(t *testing.T) {
	for _, c := range []struct {
		address, host string
		hosts         []string
		want          bool
	}{
		{"", "anything", nil, true},
		{"127.0.0.1:9108", "127.0.0.1:9108", nil, true},
		{"127.0.0.1:9108", "localhost:9108", nil, true},
		{"127.0.0.1:9108", "LOCALHOST", nil, true},
		{"127.0.0.1:9108", "[::1]:9108", nil, true},
		{"127.0.0.1:9108", "", nil, false},
		{"127.0.0.1:9108", "evil.example:9108", nil, false},
		{"127.0.0.1:9108", "localhost.evil.example", nil, false},
		{"127.0.0.1:9108", "192.168.1.5", nil, false},
		{"192.168.1.5:9108", "192.168.1.5:9108", []string{"pi.local"}, true},
		{"192.168.1.5:9108", "192.168.1.6:9108", []string{"pi.local"}, false},
		{"0.0.0.0:9108", "pi.local:9108", []string{"pi.local"}, true},
		{"0.0.0.0:9108", "Pi.Local.:9108", []string{"pi.local"}, true},
		{"0.0.0.0:9108", "0.0.0.0:9108", []string{"pi.local"}, true},
		{"0.0.0.0:9108", "192.168.1.5", []string{"192.168.1.5"}, true},
		{"0.0.0.0:9108", "192.168.1.7", []string{"192.168.1.5"}, false},
		{"[::]:9108", "[fd00::5]:9108", []string{"fd00:0::5"}, true},
		{"0.0.0.0:9108", "pi.local.evil.example", []string{"pi.local"}, false},
	} {
		s := New(Options{Address: c.address, Hosts: c.hosts})
		if got := s.isOurs(c.host); got != c.want {
			t.Errorf("at %q with %q, a request for %q: %v, want %v", c.address, c.hosts, c.host, got, c.want)
		}
	}
}

// Each IPv4 address, and each network of IPv6, has a share of its own.
func TestSharesOfAddresses(t *testing.T) {
	share := func(ip string) uint32 { return shareOf(&net.TCPAddr{IP: net.ParseIP(ip), Port: 4242}) }
	if share("192.168.1.5") == share("192.168.1.6") || share("fd00::5") == share("fd00:0:0:1::5") {
		t.Error("two have one share")
	}
	if share("192.168.1.5") != share("::ffff:192.168.1.5") || share("fd00::5") != share("fd00::6") {
		t.Error("one has two shares")
	}
}

// metricsServer answers GET /metrics at an address.
func metricsServer(t *testing.T) (h *testServer, d *pipeListener) {
	h = newTestServer(t, nil)
	h.server.o.Address = "127.0.0.1:9108"
	h.server.o.Endpoints = []Endpoint{{Route: api.GetMetrics, Call: func(context.Context, Peer, json.RawMessage) (any, error) {
		return "fieldpost_clock_synchronised 1\n", nil
	}}}
	d = newPipeListener()
	h.listeners <- d
	return h, d
}

func TestMetricsAtAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := metricsServer(t)
		ask := func(request string) (*http.Response, string) {
			c := d.connect()
			defer c.Close()
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			a, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(a.Body)
			if err != nil {
				t.Fatal(err)
			}
			return a, string(body)
		}
		a, body := ask("GET /metrics HTTP/1.1\r\nHost: localhost:9108\r\nConnection: close\r\n\r\n")
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != api.GetMetrics.Media || body != "fieldpost_clock_synchronised 1\n" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%d %v %q", a.StatusCode, a.Header, body)
		}
		a, body = ask("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n")
		if a.StatusCode != http.StatusMisdirectedRequest || !strings.Contains(body, `"wrong_host"`) || !strings.Contains(body, "local.hosts") {
			t.Errorf("for another name: %d %q", a.StatusCode, body)
		}
		a, body = ask("GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if a.StatusCode != 404 || !strings.Contains(body, "unix socket") {
			t.Errorf("another path: %d %q", a.StatusCode, body)
		}
		a, _ = ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if a.StatusCode != 405 {
			t.Errorf("another method: %d", a.StatusCode)
		}
		h.end()
	})
}

// Connections that ask nothing, and answers that nobody takes, end; others are answered
// meanwhile, from other addresses and from the same one.
func TestHostileNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := metricsServer(t)
		var idle []net.Conn
		for range 40 {
			idle = append(idle, d.connectAs(7))
		}
		slow := d.connectAs(7)
		if _, err := io.WriteString(slow, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // its answer waits to be taken
		for _, uid := range []uint32{7, 8} {
			c := d.connectAs(uid)
			if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
				t.Errorf("neighbour %d gets %q, %v", uid, got, err)
			}
		}
		before := time.Now()
		for _, c := range append(idle, slow) {
			_, _ = io.Copy(io.Discard, c)
		}
		if took := time.Since(before); took > 3*patience {
			t.Errorf("connections lasted for another %v", took)
		}
		h.end()
	})
}

// A port that another program has is a fault, and is opened once that has gone.
func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if l, err := listenTCP(taken.Addr().String()); err == nil {
		_ = l.Close()
		t.Error("a port is opened twice")
	} else if !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("says %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := newTestServer(t, nil)
		h.server.fault, h.server.about = "metrics_unavailable", MetricsSubject
		h.listeners <- nil
		synctest.Wait()
		h.listeners <- newPipeListener()
		<-time.NewTimer(again + time.Second).C
		if got := h.recorded(); got != "open, metrics metrics_unavailable raised, open, metrics metrics_unavailable cleared" {
			t.Errorf("steps: %s", got)
		}
		h.end()
	})
}

// A real connection is answered at a real port.
func TestRealAddress(t *testing.T) {
	l, err := listenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.(address).Addr().String()
	done := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", at)
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	c, from, err := l.accept()
	if err != nil || from.UID != 127<<24+1 || !l.intact() {
		t.Errorf("%+v, %v", from, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(fmt.Errorf("dial: %w", err))
	}
}
