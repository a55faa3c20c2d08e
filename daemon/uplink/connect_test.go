package uplink

import (
	"fieldpost/daemon/health"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestUnansweredConnectAndSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.Subscriptions = []Subscription{{"orders", 1}}
		l := run(t, c)
		p := b.peer()
		expect[*packets.ConnectPacket](p)
		p.gone()
		synctest.Wait()
		if l.code() != string(health.NetworkDown) {
			t.Errorf("without a CONNACK: %v", l.Status().Err)
		}
		p = b.accept(false)
		expect[*packets.SubscribePacket](p)
		p.gone()
		synctest.Wait()
		if l.code() != string(health.NoAcknowledgement) {
			t.Errorf("without a SUBACK: %v", l.Status().Err)
		}
		l.end(t, nil)
	})
}

func TestConnackRefusals(t *testing.T) {
	for code, want := range map[byte]health.Code{1: health.ConnectRefused, 2: health.ConnectRefused, 3: health.NetworkDown, 4: health.LoginRefused, 5: health.ConnectRefused, 7: health.ConnectRefused, 255: health.ConnectRefused} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			l := run(t, b.config())
			sent := l.queue.Publish("t", []byte("1"))
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.connack(code, false)
			p.gone()
			synctest.Wait()
			if st := l.Status(); l.code() != string(want) || st.Connected || st.Attempts != 1 {
				t.Errorf("code %d: status %+v", code, st)
			}
			if code == 5 && !strings.Contains(l.Status().Err.(*Explained).Hint, "client/board") {
				t.Errorf("hint does not name the client id: %v", l.Status().Err)
			}
			p = b.accept(false)
			p.puback(p.delivery("t", "1"))
			synctest.Wait()
			if got := settled(sent); got != "acknowledged" || l.Status().Err != nil {
				t.Errorf("afterwards the message is %q, status %v", got, l.Status().Err)
			}
			l.end(t, p)
		})
	}
}

func TestConnectSaysWhoWeAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := b.config()
		c.KeepAlive = 45 * time.Second
		c.Will = &Publication{Topic: "status", Payload: []byte("offline")}
		l := run(t, c)
		p := b.peer()
		m := expect[*packets.ConnectPacket](p)
		if m.ProtocolName != "MQTT" || m.ProtocolVersion != 4 || m.ClientIdentifier != "board" || m.CleanSession || m.Keepalive != 45 {
			t.Errorf("connect: got %v", m)
		}
		if !m.WillFlag || m.WillTopic != "status" || string(m.WillMessage) != "offline" || m.WillQos != 1 || m.WillRetain {
			t.Errorf("will: got %v", m)
		}
		l.end(t, p)
	})
}

func TestALPNOnlyOnPort443(t *testing.T) {
	for port, want := range map[string]string{"443": alpn, "8883": ""} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			b.tls.NextProtos = []string{alpn}
			c := b.config()
			c.Endpoint = brokerName + ":" + port
			l := run(t, c)
			p := b.peer()
			if got := p.conn.ConnectionState(); got.NegotiatedProtocol != want || got.ServerName != brokerName {
				t.Errorf("port %s: protocol %q for %q", port, got.NegotiatedProtocol, got.ServerName)
			}
			l.end(t, p)
		})
	}
}

func TestBuildTimeIsParsed(t *testing.T) {
	defer func(was string) { BuildTime = was }(BuildTime)
	BuildTime = "2026-11-21T19:02:11Z"
	if got := builtAt(); !got.Equal(time.Date(2026, 11, 21, 19, 2, 11, 0, time.UTC)) {
		t.Errorf("got %v", got)
	}
	BuildTime = "yesterday"
	if got := builtAt(); got.After(time.Now()) {
		t.Errorf("got %v", got)
	}
}
