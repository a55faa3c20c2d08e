package interop

import (
	"strings"
	"testing"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

// The link asks a broker that keeps closing the connection for its reason over MQTT 5, once,
// and its status quotes the answer.
func TestBrokersGiveTheirReasons(t *testing.T) {
	const connectOnly = `{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/thing-1*"}`
	policed := func(statements string) func(t *testing.T) *config.Config {
		return func(t *testing.T) *config.Config {
			return embedded(t, statements, func(o *broker.Options) { o.Rates = true }).o.Config
		}
	}
	for name, c := range map[string]struct {
		start     func(t *testing.T) *config.Config
		subscribe bool
		publish   int // bytes
		want      string
	}{
		"stand-in: CONNECT":   {policed(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:*:*:client/other"}`), false, 0, `says CONNACK 135: not authorized`},
		"stand-in: SUBSCRIBE": {policed(connectOnly), true, 0, "says SUBACK 135: not authorized"},
		"stand-in: PUBLISH":   {policed(connectOnly), false, 10, "says PUBACK 135: not authorized"},
		// The policy allows one client id and nothing else: it cannot be asked.
		"stand-in: may not ask": {policed(`{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/thing-1"}`), true, 0, "inferred, as it gives no reason; it does not let us ask"},
		"mosquitto: too large": {func(t *testing.T) *config.Config {
			m := daemontest.StartMosquitto(t, "max_packet_size 2000")
			return siteFor(t, m.Addr, m.CA, m.Cert, m.Key)
		}, false, 5000, "says DISCONNECT 149: packet too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := c.start(t)
			queue, told := uplink.NewQueue(), make(chan uplink.Status, 1000)
			o := uplink.Config{
				Endpoint: cfg.Endpoint(), ClientID: cfg.Broker.ClientID, CA: cfg.Broker.CA, Certificate: cfg.Broker.Certificate, Key: cfg.Broker.Key,
				Outbox: queue, Ask: mqtt5.Ask, Log: daemontest.Log(t), Observe: func(s uplink.Status) {
					select {
					case told <- s:
					default:
					}
				},
			}
			if c.subscribe {
				o.Subscriptions = []uplink.Subscription{{Filter: "test/topic", QoS: 1}}
			}
			l, err := uplink.New(o)
			if err != nil {
				t.Fatal(err)
			}
			daemontest.Background(t, l.Run)
			if c.publish > 0 {
				queue.Publish("test/topic", []byte(strings.Repeat("x", c.publish)))
			}
			daemontest.Await(t, c.want, told, func(s uplink.Status) bool {
				return strings.Contains(s.DeniedWhy, c.want) || s.Err != nil && strings.Contains(s.Err.Error(), c.want)
			})
		})
	}
}
