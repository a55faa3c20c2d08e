package uplink

import (
	"fieldpost/daemon/health"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// goodbye ends the connection like mochi when it stops or another client takes over the
// session.
func (p *peer) goodbye(packet ...byte) {
	p.t.Helper()
	_, err := p.conn.Write(packet)
	must(p.t, err)
	p.gone()
	synctest.Wait()
}

// A DISCONNECT from the broker is a clean close. Once, the broker stops; repeated ones
// mean that another client takes over the session.
func TestDisconnectFromTheBroker(t *testing.T) {
	for name, packet := range map[string][]byte{
		"as in MQTT 3.1.1":                   {0xe0, 0},
		"with MQTT 5's reason":               {0xe0, 1, 0x8e},
		"and with its reason and properties": {0xe0, 2, 0x8e, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, b.config())
				for i := range 3 {
					p := b.accept(true)
					p.quiet(time.Second)
					p.goodbye(packet...)
					want := health.NetworkDown
					if i == 2 {
						want = health.DuplicateClient
					}
					if l.code() != string(want) || strings.Contains(l.Status().Err.Error(), "not MQTT") {
						t.Errorf("close %d: %v, want %s", i+1, l.Status().Err, want)
					}
				}
				l.end(t, nil)
			})
		})
	}
}

// Instead of the CONNACK it is a refusal.
func TestDisconnectInsteadOfTheConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.peer()
		expect[*packets.ConnectPacket](p)
		p.goodbye(0xe0, 0)
		checkSays(t, l.Status().Err.(*Explained), health.ConnectRefused, "client/board")
		l.end(t, nil)
	})
}
