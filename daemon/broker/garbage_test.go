package broker

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// Whatever a client sends, only its own connection ends.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0xc0, 0})                                                     // PINGREQ
	f.Add([]byte{0x30, 6, 0, 1, 'a', 'x', 'y', 'z'})                           // PUBLISH
	f.Add([]byte{0x32, 6, 0, 1, 'a', 0, 1, 'z', 0x32, 4, 0, 1, 'a', 0})        // and one cut short
	f.Add([]byte{0x82, 6, 0, 1, 0, 1, '#', 1, 0xa2, 5, 0, 2, 0, 1, '#', 0xe0}) // SUBSCRIBE, UNSUBSCRIBE
	f.Add([]byte{0x82, 8, 0, 1, 0, 3, 'a', '/', '+', 2, 0x40, 2, 0, 1, 0x62, 2, 0, 1, 0x50, 2, 0, 1})
	f.Add([]byte{0x36, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0xf0, 2, 0, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		o := Options{Policy: awsiot.Tutorial()}
		o.fill()
		server, _, err := newServer(o, newRegistry(nil, o.Policy))
		if err != nil {
			t.Fatal(err)
		}
		c, ended := pipe(t, server)
		c.send(hello("thing-1", false))
		c.want(packets.Connack)
		heard := make(chan error, 1)
		go func(conn net.Conn) {
			_, err := io.Copy(io.Discard, conn)
			heard <- err
		}(c.conn)
		_, _ = c.conn.Write(sent)
		_ = c.conn.Close()
		<-heard
		await(t, ended)

		// The next one is served.
		c, ended = pipe(t, server)
		c.send(hello("thing-2", true))
		c.want(packets.Connack)
		c.publish(1, "test/topic", "x")
		_ = c.conn.Close()
		await(t, ended)
	})
}

func await(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the connection does not end")
	}
}
