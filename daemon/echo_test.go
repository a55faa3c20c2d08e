package daemon_test

import (
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/uplink"
)

// Orders and readings on one topic: whatever the reason for which what is acknowledged
// does not come back, it is found out, and no subscription is made for that.
func TestAcknowledgedAndNotDelivered(t *testing.T) {
	const connect = `{"Effect":"Allow","Action":["iot:Connect","iot:Subscribe"],"Resource":"*"},`
	for name, c := range map[string]struct {
		statements string
		ackDenied  bool
		want       string
	}{
		"delivered":                       {connect + `{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"*"}`, true, ""},
		"publishing denied, as mosquitto": {connect + `{"Effect":"Allow","Action":"iot:Receive","Resource":"*"}`, true, "test/topic"},
		"receiving denied, as AWS does":   {connect + `{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}`, false, "test/topic"},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + c.statements + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			b, err := broker.New(broker.Options{Dir: t.TempDir(), Policy: policy, AckDenied: c.ackDenied})
			if err != nil {
				t.Fatal(err)
			}
			daemontest.Background(t, b.Run)
			status, queue := make(chan uplink.Status, 4096), uplink.NewQueue()
			l, err := uplink.New(uplink.Config{
				Endpoint: b.Addr(), ClientID: "thing-1", CA: b.Files().CA, Certificate: b.Files().Certificate, Key: b.Files().Key,
				Subscriptions: []uplink.Subscription{{Filter: "test/topic", QoS: 1}}, Outbox: queue, Observe: func(s uplink.Status) { status <- s },
				Echo: uplink.Echo{Topic: "test/topic", Within: time.Second},
			})
			if err != nil {
				t.Fatal(err)
			}
			daemontest.Background(t, l.Run)
			if err := <-queue.Publish("test/topic", []byte("1")); err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				daemontest.Await(t, "our own message", l.Messages(), func(m uplink.Message) bool { m.Ack(); return string(m.Payload) == "1" })
				if s := l.Status(); s.Undelivered != "" {
					t.Errorf("status %+v", s)
				}
				return
			}
			daemontest.Await(t, "word of it", status, func(s uplink.Status) bool { return s.Undelivered == c.want })
		})
	}
}
