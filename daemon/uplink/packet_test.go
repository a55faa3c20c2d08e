package uplink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func newPacketReader(data []byte) *packetReader {
	g := &packetReader{r: bufio.NewReader(bytes.NewReader(data)), accepted: func() {}, deliver: func(*publishPacket) {}}
	g.maxPayload.Store(defaultMaxPayload)
	return g
}

// written returns the message as a packet.
func (m *publishPacket) written() []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload, p.Qos, p.MessageID, p.Retain, p.Dup = m.topic, m.payload, m.qos, m.packet, m.retained, m.duplicate
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var connackOK = []byte{0x20, 2, 0, 0}

func TestPacketReaderLetsThroughWhatIsDue(t *testing.T) {
	messages := [][]byte{
		{0x30, 4, 0, 1, 't', 'p'},       // PUBLISH, QoS 0
		{0x32, 6, 0, 1, 't', 0, 9, 'p'}, // QoS 1
		{0x3b, 5, 0, 1, 't', 0, 9},      // QoS 1, duplicate, retained, no payload
		append([]byte{0x30, 0xff, 0x7f, 0, 1, 't'}, make([]byte, 0x3fff-3)...), // a longer one
	}
	long := []byte{0x30, 0x84, 0, 0, 1, 't', 'p'} // a length of two bytes, although one would do
	due := [][]byte{
		{0x40, 2, 0, 9}, // PUBACK
		{0xd0, 0},       // PINGRESP
	}
	g := newPacketReader(bytes.Join([][]byte{connackOK, bytes.Join(messages, nil), long, due[0], due[1], messages[0]}, nil))
	var came [][]byte
	g.deliver = func(m *publishPacket) { came = append(came, m.written()) }
	defer func() {
		want := append(messages, messages[0], messages[0])
		if !slices.EqualFunc(came, want, bytes.Equal) {
			t.Errorf("%d messages came, want %d, the same", len(came), len(want))
		}
	}()
	for i, want := range append([][]byte{connackOK}, due...) {
		got, err := g.readPacket()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("packet %d: got % x, %v; want % x", i, got[:min(8, len(got))], err, want[:min(8, len(want))])
		}
	}
	if _, err := g.readPacket(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestPacketReaderRefusesWhatIsNotDue(t *testing.T) {
	cases := map[string][]byte{
		"second CONNACK":            connackOK,
		"CONNECT":                   {0x10, 0},
		"SUBACK not asked for":      {0x90, 3, 0, 1, 0},
		"PUBREC":                    {0x50, 2, 0, 1},
		"PUBREL":                    {0x62, 2, 0, 1},
		"PUBCOMP":                   {0x70, 2, 0, 1},
		"UNSUBACK":                  {0xb0, 2, 0, 1},
		"PINGREQ":                   {0xc0, 0},
		"DISCONNECT with flags":     {0xe1, 0},
		"long DISCONNECT":           {0xe0, 0x81, 0x08},
		"reserved type 0":           {0x00, 0},
		"reserved type 15":          {0xf0, 0},
		"PUBLISH at QoS 2":          {0x34, 5, 0, 1, 't', 0, 1},
		"PUBLISH at QoS 3":          {0x36, 5, 0, 1, 't', 0, 1},
		"PUBLISH without topic":     {0x30, 3, 0, 0, 'p'},
		"PUBLISH with a wildcard":   {0x30, 3, 0, 1, '#'},
		"PUBLISH not UTF-8":         {0x30, 3, 0, 1, 0xff},
		"PUBLISH shorter than said": {0x30, 3, 0, 9, 't'},
		"PUBLISH without packet id": {0x32, 4, 0, 1, 't', 0},
		"empty PUBLISH":             {0x30, 0},
		"PUBLISH with packet id 0":  {0x32, 5, 0, 1, 't', 0, 0},
		"long PUBACK":               {0x40, 3, 0, 1, 0},
		"PUBACK with flags":         {0x41, 2, 0, 1},
		"endless length":            {0x30, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"huge PUBACK":               {0x40, 0xff, 0xff, 0xff, 0x7f},
	}
	for name, packet := range cases {
		g := newPacketReader(append(bytes.Clone(connackOK), packet...))
		if _, err := g.readPacket(); err != nil {
			t.Fatal(err)
		}
		if got, err := g.readPacket(); !errors.Is(err, errProtocol) {
			t.Errorf("%s: got % x, %v", name, got, err)
		}
	}
}

func TestFirstPacket(t *testing.T) {
	for name, c := range map[string]struct {
		packet []byte
		want   string
	}{
		"nothing":       {nil, "EOF"},
		"not a CONNACK": {[]byte{0x40, 2, 0, 1}, "type 4 and not CONNACK"},
		"HTTP":          {[]byte("HTTP/1.1 400 Bad Request\r\n"), "not CONNACK"},
		"long CONNACK":  {[]byte{0x20, 3, 0, 0, 0}, "unexpected type 2"},
		"refused":       {[]byte{0x20, 2, 0, 7}, "return code 7"},
		"cut short":     {[]byte{0x20, 2, 0}, "unexpected EOF"},
	} {
		if _, err := newPacketReader(c.packet).readPacket(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestPacketReaderWhileSubscribing(t *testing.T) {
	for _, c := range []struct {
		packet []byte
		ok     bool
	}{
		{[]byte{0x90, 3, 0, 1, 0x80}, true},
		{[]byte{0x90, 4, 0, 1, 0, 0}, false}, // one code too many: the protocol client would panic
		{[]byte{0x90, 2, 0, 1}, false},       // none
		{[]byte{0x40, 2, 0, 1}, true},        // a PUBACK, which the protocol client is not given
		{[]byte{0xb0, 2, 0, 1}, true},        // an UNSUBACK, likewise
		{[]byte{0xb0, 3, 0, 1, 0}, false},
	} {
		g := newPacketReader(append(bytes.Clone(connackOK), c.packet...))
		_, err := g.readPacket()
		must(t, err)
		g.subscribing.Store(true)
		if _, err := g.readPacket(); (err == nil) != c.ok {
			t.Errorf("% x: %v", c.packet, err)
		}
	}
}

func FuzzPacketReader(f *testing.F) {
	f.Add([]byte{0x32, 6, 0, 1, 't', 0, 9, 'p'})
	f.Add([]byte{0x30, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newPacketReader(append(bytes.Clone(connackOK), data...))
		read := 0
		g.maxPayload.Store(truncatedBytes)
		g.deliver = func(m *publishPacket) {
			read += m.size
			if m.topic == "" || len(m.payload) != min(m.size, truncatedBytes) || cap(m.payload) > truncatedBytes {
				t.Fatalf("message %q with %d of %d bytes", m.topic, len(m.payload), m.size)
			}
		}
		for {
			packet, err := g.readPacket()
			if err != nil {
				break
			}
			read += len(packet)
			// The protocol client can read everything that the packet reader accepts.
			if _, err := packets.ReadPacket(bytes.NewReader(packet)); err != nil {
				t.Fatalf("% x: %v", packet, err)
			}
		}
		if read > len(data)+len(connackOK) {
			t.Fatalf("gave %d bytes out of %d", read, len(data))
		}
	})
}

// On a running link an invalid packet ends the connection. It neither ends the program
// nor acknowledges anything.
func TestHostileBroker(t *testing.T) {
	for name, packet := range map[string]func(id uint16) []byte{
		"SUBACK for a publish":   func(id uint16) []byte { return []byte{0x90, 3, byte(id >> 8), byte(id), 0} },
		"UNSUBACK for a publish": func(id uint16) []byte { return []byte{0xb0, 2, byte(id >> 8), byte(id)} },
		"PUBCOMP for a publish":  func(id uint16) []byte { return []byte{0x70, 2, byte(id >> 8), byte(id)} },
		"garbage":                func(uint16) []byte { return []byte("\xff\xff\xff\xff\xff\xff") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, b.config())
				sent := l.queue.Publish("t", []byte("1"))
				p := b.accept(false)
				_, err := p.conn.Write(packet(p.delivery("t", "1")))
				must(t, err)
				p.gone()
				synctest.Wait()
				if e := l.Status().Err; settled(sent) != "" || !errors.Is(e, errProtocol) {
					t.Errorf("message is %q, status %v", settled(sent), e)
				}
				p = b.accept(true)
				p.puback(p.delivery("t", "1"))
				synctest.Wait()
				if got := settled(sent); got != "acknowledged" {
					t.Errorf("at last the message is %q", got)
				}
				l.end(t, p)
			})
		})
	}
}

func TestSubackWithExtraCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, orders(b))
		p := b.accept(false)
		s := expect[*packets.SubscribePacket](p)
		p.suback(s.MessageID, 1, 1, 1)
		p.gone()
		synctest.Wait()
		if e := l.Status().Err; !errors.Is(e, errProtocol) {
			t.Errorf("status: %v", e)
		}
		p = b.accept(false)
		p.grant("orders", 1)
		synctest.Wait()
		if !l.Status().Connected {
			t.Error("did not recover")
		}
		l.end(t, p)
	})
}
