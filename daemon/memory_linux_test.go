package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
)

// memoryMost is what the whole process may take, whatever comes: half of what the
// unit gives it.
const memoryMost = 64 << 20

// limitedProcess is the program in a control group of memoryMost, where this process may make
// one: the kernel ends what exceeds it. Elsewhere its peak is only looked at.
type limitedProcess struct {
	t       *testing.T
	program string
	group   *daemontest.MemoryGroup
	dir     string // of the runtime directory and the socket
	env     []string
	cmd     *exec.Cmd
	out     bytes.Buffer
	ended   chan error
}

func newLimitedProcess(t *testing.T) *limitedProcess {
	t.Helper()
	c := &limitedProcess{t: t, program: filepath.Join(t.TempDir(), "fieldpost")}
	if out, err := exec.Command("go", "build", "-o", c.program, "fieldpost/cmd/fieldpost").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	c.dir = filepath.Dir(daemontest.SocketPath(t))
	c.env = append(daemontest.UnitEnvironment(t), "RUNTIME_DIRECTORY="+c.dir)
	c.group = daemontest.NewMemoryGroup(t, fmt.Sprintf("fieldpost-test-%d", os.Getpid()), memoryMost)
	t.Cleanup(c.kill) // before the group is removed
	return c
}

// start starts the program with these arguments.
func (c *limitedProcess) start(args ...string) {
	c.t.Helper()
	args = c.group.Command(c.program, args...)
	c.out.Reset()
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Env = append(os.Environ(), c.env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait() }(c.cmd, c.ended)
}

// socket is the daemon's.
func (c *limitedProcess) socket() string { return filepath.Join(c.dir, "fieldpost.sock") }

// awaitStatus asks the daemon until it is as ok wants it, or has ended.
func (c *limitedProcess) awaitStatus(what string, ok func(api.Status) bool) api.Status {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := client.AskStatus(ctx, c.socket())
		if err == nil && ok(r) {
			return r
		}
		select {
		case died := <-c.ended:
			c.cmd = nil
			c.t.Fatalf("it ended before %s: %v\n%.4000s", what, died, c.out.String())
		case <-ctx.Done():
			c.t.Fatalf("no %s: %+v, %v", what, r, err)
		case <-again.C:
		}
	}
}

// peak is the most that was resident so far, in bytes; proc(5), VmHWM.
func (c *limitedProcess) peak() int {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		c.t.Fatal("no VmHWM")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		c.t.Fatal(err)
	}
	return n << 10
}

// checkPeak fails if it has taken too much so far.
func (c *limitedProcess) checkPeak(what string) {
	c.t.Helper()
	n := c.peak()
	c.t.Logf("%s: at most %.1f MB", what, float64(n)/(1<<20))
	if n > memoryMost {
		c.t.Errorf("%s: %d bytes, want %d at most", what, n, memoryMost)
	}
}

// stop ends it in order.
func (c *limitedProcess) stop() {
	c.t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // that it has ended shows below
	select {
	case err := <-c.ended:
		if err != nil {
			c.t.Errorf("it ended with %v\n%.4000s", err, c.out.String())
		}
	case <-time.After(daemontest.Patience):
		c.t.Error("it does not end")
		return
	}
	c.cmd = nil
}

func (c *limitedProcess) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		<-c.ended
		c.cmd = nil
	}
}

// hostile is a broker that sends what it likes, as fast as it can.
type hostile struct {
	t    *testing.T
	l    net.Listener
	conn chan *hostage // each session, its subscription granted
}

// hostage is a session with the hostile broker.
type hostage struct {
	*tls.Conn
	fence chan struct{} // the message "fence" was acknowledged
	over  chan struct{} // closed when it has ended
}

func newHostile(t *testing.T, s *daemontest.Site) *hostile {
	t.Helper()
	certs := filepath.Join(s.Dir, "certs")
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "server.pem.crt"), filepath.Join(certs, "server.pem.key"))
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{t: t, conn: make(chan *hostage, 16)}
	h.l, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: daemontest.Roots(s.Files.CA)})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := h.l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { h.serve(&hostage{c.(*tls.Conn), make(chan struct{}, 1), make(chan struct{})}) })
		}
	})
	t.Cleanup(func() {
		h.l.Close()
		for len(h.conn) > 0 {
			(<-h.conn).Close()
		}
		all.Wait()
	})
	return h
}

// serve says CONNACK and SUBACK, and PUBACK to nothing; it reads until the end.
func (h *hostile) serve(c *hostage) {
	defer close(c.over)
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		switch first >> 4 {
		case 1:
			_, err = c.Write([]byte{0x20, 2, 0, 0})
		case 4:
			if binary.BigEndian.Uint16(body) == fenceID {
				c.fence <- struct{}{}
			}
		case 8:
			if _, err = c.Write([]byte{0x90, 3, body[0], body[1], 1}); err == nil {
				h.conn <- c
			}
		case 12:
			_, err = c.Write([]byte{0xd0, 0})
		}
		if err != nil {
			return
		}
	}
}

// session waits for the next one.
func (h *hostile) session() *hostage {
	h.t.Helper()
	return daemontest.Await(h.t, "session", h.conn, func(*hostage) bool { return true })
}

const fenceID = 65535

// publishPacket is a PUBLISH packet.
func publishPacket(topic, payload string, qos byte, id uint16) []byte {
	b := binary.AppendUvarint([]byte{0x30 | qos<<1}, uint64(2+len(topic)+2*int(qos)+len(payload)))
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(topic))), topic...)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// flood sends n packets, and waits until all have been read. It gives the session
// then: that the daemon hangs up is its right.
func (h *hostile) flood(c *hostage, n int, packet func(i int) []byte) *hostage {
	h.t.Helper()
	w := bufio.NewWriterSize(c, 1<<16)
	var err error
	for i := 0; i < n && err == nil; i++ {
		_, err = w.Write(packet(i))
	}
	if err == nil {
		_, err = w.Write(publishPacket("fence", "", 1, fenceID))
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		select {
		case <-c.fence:
			return c
		case <-c.over:
		case <-time.After(daemontest.Patience):
			h.t.Fatal("what was sent is not read")
		}
	}
	return h.session()
}

const memoryConfig = `thing: thing-memory
broker: {endpoint: %s}
readings: {topic: test/readings}
commands: {topic: test/orders, answers: test/answers}
spool: {dir: spool}
outputs:
  - {name: pump, pin: no-such-line}
`

func (c *limitedProcess) config(s *daemontest.Site, endpoint string) string {
	c.t.Helper()
	path := filepath.Join(s.Dir, "fieldpost.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, memoryConfig, endpoint), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// Whatever a broker sends, the daemon lives and its memory is bounded.
func TestMemoryUnderFloods(t *testing.T) {
	s := daemontest.NewSite(t, nil) // for its certificates
	h := newHostile(t, s)
	c := newLimitedProcess(t)
	c.start("run", "-c", c.config(s, h.l.Addr().String()))
	big, full, long := strings.Repeat("x", 870_000), strings.Repeat("x", 64<<10), strings.Repeat("t", 60_000)
	order := func(i int, note string) string {
		return fmt.Sprintf(`{"id":"c-%d","output":"none","action":"on","expires":"2099-01-01T00:00:00Z"%s}`, i, note)
	}
	many := `{"action":"on"` + strings.Repeat(`,"k":1`, 10_900) + `}`
	conn := h.session()
	for _, flood := range []struct {
		name   string
		n      int
		packet func(i int) []byte
	}{
		{"100 messages of 870 kB at QoS 1", 100, func(i int) []byte { return publishPacket("test/orders", big, 1, uint16(i+1)) }},
		{"100 messages of 870 kB at QoS 0", 100, func(int) []byte { return publishPacket("test/orders", big, 0, 0) }},
		{"100 messages of 870 kB elsewhere", 100, func(i int) []byte { return publishPacket("old/orders", big, 1, uint16(i+1)) }},
		{"100 orders of 870 kB", 100, func(i int) []byte {
			return publishPacket("test/orders", order(i, `,"note":"`+big+`"`), 1, uint16(i+1))
		}},
		{"2,000 messages of 64 KiB at QoS 1", 2000, func(i int) []byte { return publishPacket("test/orders", full, 1, uint16(i+1)) }},
		{"2,000 messages of 64 KiB at QoS 0", 2000, func(int) []byte { return publishPacket("test/orders", full, 0, 0) }},
		{"500 messages of 64 KiB of keys", 500, func(i int) []byte { return publishPacket("test/orders", many, 1, uint16(i+1)) }},
		{"topics of 60,000 bytes", 2000, func(i int) []byte { return publishPacket(fmt.Sprint(i, long), "", 1, uint16(i+1)) }},
		{"10,000 unknown orders at QoS 1", 10_000, func(i int) []byte { return publishPacket("test/orders", order(i, ""), 1, uint16(i+1)) }},
		{"10,000 unknown orders at QoS 0", 10_000, func(i int) []byte { return publishPacket("test/orders", order(i, ""), 0, 0) }},
		{"10,000 malformed orders", 10_000, func(i int) []byte { return publishPacket("test/orders", `{"action":"on"}`, 1, uint16(i+1)) }},
		{"60,000 empty messages with one id", 60_000, func(int) []byte { return publishPacket("test/orders", "", 1, 7) }},
		{"1,000,000 PUBACKs", 1_000_000, func(i int) []byte { return []byte{0x40, 2, byte(i >> 8), byte(i)} }},
		{"1,000,000 PINGRESPs", 1_000_000, func(int) []byte { return []byte{0xd0, 0} }},
	} {
		before := conn
		conn = h.flood(conn, flood.n, flood.packet)
		c.awaitStatus("status", func(api.Status) bool { return true })
		c.checkPeak(fmt.Sprintf("%s (hung up: %v)", flood.name, conn != before))
	}
	c.stop()
}

// Configurations that nobody can have meant, and the largest that may be: the first
// are refused within the bound (which the control group shows), the other runs within it, whoever asks.
func TestMemoryAndConfigurations(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	c := newLimitedProcess(t)
	most := 128<<10 - 100
	head := strings.Replace(fmt.Sprintf(memoryConfig, s.Addr), "outputs:", "sensors:", 1)
	head = head[:strings.LastIndex(head, "  - {name: pump")]
	filled := func(before, line, after string) string {
		return before + strings.Repeat(line, (most-len(before)-len(after))/len(line)) + after
	}
	for name, text := range map[string]string{
		"many MB":  strings.Repeat("# nothing\n", 5<<20),
		"scalars":  filled(head+"  [", "1,", "1]\n"),
		"mappings": filled(head+"  [", "{},", "{}]\n"),
		"depth":    head + "  " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n",
		"keys":     filled(head, "x:\n", ""),
		"aliases":  filled(head+"  [&a [1],", "*a,", "1]\n"),
	} {
		path := filepath.Join(s.Dir, "bad.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.start("run", "-c", path)
		var died *exec.ExitError
		select {
		case err := <-c.ended:
			if !errors.As(err, &died) || died.ExitCode() != 78 || c.out.Len() > 64<<10 {
				t.Errorf("%s: it ended with %v and said %d bytes:\n%.1000s", name, err, c.out.Len(), c.out.String())
			}
			c.cmd = nil
		case <-time.After(daemontest.Patience):
			t.Fatalf("%s: it does not end", name)
		}
	}

	var text strings.Builder
	text.WriteString(head)
	const n = 256
	for n := range n {
		fmt.Fprintf(&text, "  - {name: s%d, chip: lm75, bus: i2c-%d, address: 0x%x, every: 1s}\n", n, n/8, 0x48+n%8)
	}
	path := filepath.Join(s.Dir, "most.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start("run", "-c", path)
	c.awaitStatus("link", func(r api.Status) bool { return r.Link.Connected && len(r.Sensors) == n && len(r.Faults) >= n })
	c.checkPeak(fmt.Sprintf("%d sensors", n))
	c.askFromMany(100)
	c.awaitStatus("status", func(api.Status) bool { return true })
	c.checkPeak("many who ask")
	c.stop()
}

// askFromMany has so many clients at a time ask for the status, or send more than they may,
// or half of it, and none take the answer before all have asked.
func (c *limitedProcess) askFromMany(n int) {
	c.t.Helper()
	head := "POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 6000000\r\n\r\n"
	half := head[:40] + strings.Repeat("x", 7_000)
	var all sync.WaitGroup
	for i := range n {
		conn, err := net.Dial("unix", c.socket())
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { conn.Close() })
		all.Go(func() {
			said := []string{"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", half, head + strings.Repeat("x", 6_000_000)}[i%3]
			_ = conn.SetDeadline(time.Now().Add(daemontest.Patience))
			_, _ = io.WriteString(conn, said) // it may be sent away meanwhile
		})
	}
	all.Wait()
}

// Large messages that the broker has kept while the daemon was off, or sends now.
func TestMemoryAndLargeMessages(t *testing.T) {
	s, m := daemontest.NewMosquittoSite(t, "max_inflight_messages 0", "max_queued_bytes 0")
	c := newLimitedProcess(t)
	path := c.config(s, s.Addr)
	c.start("run", "-c", path)
	c.awaitStatus("link", func(r api.Status) bool { return r.Link.Connected })
	say := publishLarge(m)
	const n, rounds = 95, 3
	for range n {
		say("test/orders", strings.Repeat("x", 870_000))
	}
	c.awaitStatus("messages", func(r api.Status) bool { return r.Link.Dropped == n })
	c.checkPeak("live")
	c.stop()
	for range rounds {
		for range n {
			say("test/orders", strings.Repeat("x", 870_000))
		}
		c.start("run", "-c", path)
		c.awaitStatus("messages", func(r api.Status) bool { return r.Link.Dropped == n && r.Link.Connected })
		c.checkPeak("kept by the broker")
		c.stop()
	}
}

// publishLarge gives a function that publishes at QoS 1 what no uplink would take.
func publishLarge(m *daemontest.Mosquitto) func(topic, payload string) {
	m.T.Helper()
	pair, err := tls.LoadX509KeyPair(m.Cert, m.Key)
	if err != nil {
		m.T.Fatal(err)
	}
	c, err := tls.Dial("tcp", m.Addr, &tls.Config{ServerName: "localhost", RootCAs: daemontest.Roots(m.CA), Certificates: []tls.Certificate{pair}})
	if err != nil {
		m.T.Fatal(err)
	}
	m.T.Cleanup(func() { c.Close() })
	answer := func(want byte) {
		m.T.Helper()
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil || b[0] != want {
			m.T.Fatalf("answer % x, %v; want %#x", b, err, want)
		}
	}
	write := func(b []byte) {
		m.T.Helper()
		if err := errors.Join(c.SetDeadline(time.Now().Add(daemontest.Patience)), func() error { _, err := c.Write(b); return err }()); err != nil {
			m.T.Fatal(err)
		}
	}
	write(append([]byte{0x10, 12 + 4, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 4}, "loud"...))
	answer(0x20)
	return func(topic, payload string) {
		m.T.Helper()
		write(publishPacket(topic, payload, 1, 1))
		answer(0x40)
	}
}
