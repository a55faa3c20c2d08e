package outbox

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mqtt "fieldpost/daemon/broker"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
)

// picky is a broker that hangs up on every message with a certain text in it, or
// to a certain topic, and takes all others.
type picky struct {
	pair tls.Certificate
	bad  string

	mu      sync.Mutex
	denied  string           // the topic
	took    map[string][]int // the numbers of the readings it took, by sensor, in their order
	hangUps int
}

// allow ends the denial.
func (b *picky) allow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied = ""
}

// has gives the numbers of a sensor's readings that it took.
func (b *picky) has(sensor string) []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.took[sensor])
}

// newPicky gives one that takes everything, and the files to connect to it.
// Certificates are verified at the present time, whatever the bubble's clock says.
func newPicky(t *testing.T) (*picky, mqtt.Files) {
	t.Helper()
	files, err := mqtt.Certificates(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.ServerCertificate, files.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	built := uplink.BuildTime
	t.Cleanup(func() { uplink.BuildTime = built })
	uplink.BuildTime = time.Now().UTC().Format(time.RFC3339)
	return &picky{pair: pair, took: map[string][]int{}}, files
}

// link starts a link to the broker.
func (b *picky) link(t *testing.T, files mqtt.Files, box uplink.Outbox) (*uplink.Link, *task.Task) {
	t.Helper()
	l, err := uplink.New(uplink.Config{
		Endpoint: "localhost:8883", ClientID: "board", CA: files.CA, Certificate: files.Certificate, Key: files.Key,
		Outbox: box, Dial: b.dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, task.Start("link", make(chan error, 1), l.Run)
}

// dial is [uplink.Config.Dial]. What is played ends with its connection.
func (b *picky) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		b.serve(tls.Server(far, &tls.Config{Certificates: []tls.Certificate{b.pair}}))
	}()
	return near, nil
}

// serve answers packets (MQTT 3.1.1, section 2.2) until it hangs up.
func (b *picky) serve(c *tls.Conn) {
	r := bufio.NewReader(c)
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		size, err := binary.ReadUvarint(r) // the remaining length has the same form
		if err != nil {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		var answer []byte
		switch first >> 4 {
		case 1: // CONNECT
			answer = []byte{0x20, 2, 0, 0}
		case 3: // PUBLISH
			topic := 2 + int(binary.BigEndian.Uint16(body))
			if answer = []byte{0x40, 2, body[topic], body[topic+1]}; !b.takes(string(body[2:topic]), body[topic+2:]) {
				if c.CloseWrite() == nil { // as a socket's close, it lets the client finish writing
					_, _ = io.Copy(io.Discard, r)
				}
				return
			}
		case 12: // PINGREQ
			answer = []byte{0xd0, 0}
		case 14: // DISCONNECT
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// takes notes what a message holds, unless it is a bad one.
func (b *picky) takes(topic string, payload []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if topic == b.denied || b.bad != "" && strings.Contains(string(payload), b.bad) {
		b.hangUps++
		return false
	}
	if payload[0] == '{' {
		payload = slices.Concat([]byte("["), payload, []byte("]"))
	}
	var readings []struct {
		Kind, Sensor string
		Seq          int
	}
	if err := json.Unmarshal(payload, &readings); err != nil {
		return false
	}
	for _, r := range readings {
		if r.Kind == "" {
			b.took[r.Sensor] = append(b.took[r.Sensor], r.Seq)
		}
	}
	return true
}

// One reading that the broker will not take costs no other one in its batch,
// and is reported.
func TestPoisonedReadingInABatch(t *testing.T) {
	const n, bad = 60, 23
	b, files := newPicky(t)
	b.bad = "poison"
	synctest.Test(t, func(t *testing.T) {
		x := newBoxed(t, "t", config.Batch{Max: 10, Within: time.Second})
		for i := 1; i <= n; i++ {
			text := ""
			if i == bad {
				text = "poison"
			}
			x.put(message.Reading, "air", text)
		}
		l, linking := b.link(t, files, x)
		<-time.After(2 * time.Hour)
		synctest.Wait()
		if st := x.Spool.Stats(); st.Refused != 1 || st.Samples.Pending != 0 || st.Events.Pending != 0 || b.hangUps > 20 {
			t.Errorf("after %d hang-ups: %+v", b.hangUps, st)
		}
		got := b.has("air")
		slices.Sort(got)
		got = slices.Compact(got)
		if len(got) != n-1 || slices.Contains(got, bad) {
			t.Errorf("the broker has %v", got)
		}
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("link: %+v", st)
		}
		if err := linking.Stop(time.Minute); err != nil {
			t.Error(err)
		}
	})
}
