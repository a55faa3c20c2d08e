package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// join5 connects over MQTT 5.
func join5(t *testing.T, b *Broker, connect packets.Packet) (*client, packets.Packet) {
	t.Helper()
	c := dial(t, b)
	c.version, connect.ProtocolVersion = 5, 5
	c.send(connect)
	return c, c.want(packets.Connack)
}

// Over MQTT 5 AWS IoT Core says what it denies, with reason code 135, and the
// connection stands where the answer has a place for one.
func TestVersion5(t *testing.T) {
	b := open(t, awsiot.Tutorial())
	c, ack := join5(t, b, hello("thing-1", true))
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK with %d", ack.ReasonCode)
	}
	c.send(publication(1, "test/other", "x"))
	if ack := c.want(packets.Puback); ack.PacketID != 1 || ack.ReasonCode != 135 {
		t.Errorf("PUBACK %d with %d", ack.PacketID, ack.ReasonCode)
	}
	c.send(retained(publication(2, "test/topic", "x")))
	if ack := c.want(packets.Puback); ack.PacketID != 2 || ack.ReasonCode != 135 {
		t.Errorf("PUBACK %d with %d", ack.PacketID, ack.ReasonCode)
	}
	c.send(subscription(3, "test/topic", "test/#"))
	if ack := c.want(packets.Suback); ack.PacketID != 3 || string(ack.ReasonCodes) != "\x87\x87" {
		t.Errorf("SUBACK %d with %v", ack.PacketID, ack.ReasonCodes)
	}
	c.publish(4, "test/topic", "x")
	c.wantNothing() // of the SUBSCRIBE nothing was granted
	c.subscribe(5, "test/topic")
	c.publish(6, "test/topic", "y")
	c.receive("test/topic", "y")
	c.send(publication(0, "test/other", "x")) // has no answer
	if got := c.want(packets.Disconnect); got.ReasonCode != 135 {
		t.Errorf("DISCONNECT with %d", got.ReasonCode)
	}
	c.wantClosed()
}

func TestVersion5ConnectDenied(t *testing.T) {
	b := open(t, awsiot.Tutorial())
	c, ack := join5(t, b, hello("laptop", true))
	if ack.ReasonCode != 135 {
		t.Errorf("CONNACK with %d", ack.ReasonCode)
	}
	c.wantClosed()
}

// What a policy may ask about a connection is what the connection is.
func TestConnectionIsAsked(t *testing.T) {
	b := open(t, policy(t, `
		{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{
			"ForAllValues:StringEquals":{"iot:ConnectAttributes":["LastWill"]},
			"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},
			"Bool":{"iot:Connection.Thing.IsAttached":"true"}}},
		{"Effect":"Allow","Action":["iot:Publish","iot:Subscribe","iot:Receive"],"Resource":[
			"arn:aws:iot:*:*:topic/${iot:Certificate.Subject.CommonName}/${iot:Connection.Thing.ThingName}",
			"arn:aws:iot:*:*:topicfilter/${iot:Certificate.Subject.CommonName}/*"]}`))
	leaf, err := readCertificate(b.Files().Certificate)
	if err != nil {
		t.Fatal(err)
	}
	c := join(t, b, "thing-1", true)
	c.subscribe(1, leaf.Subject.CommonName+"/#")
	c.publish(2, leaf.Subject.CommonName+"/thing-1", "x")
	c.receive(leaf.Subject.CommonName+"/thing-1", "x")
	c.send(publication(3, leaf.Subject.CommonName+"/thing-2", "x"))
	c.wantClosed()
	c = dial(t, b)
	c.send(hello("thing-1", false)) // PersistentConnect
	c.wantClosed()

	five := hello("thing-1", true)
	five.Properties.SessionExpiryInterval, five.Properties.SessionExpiryIntervalFlag = 60, true
	if _, ack := join5(t, b, five); ack.ReasonCode != 135 {
		t.Errorf("a session of MQTT 5 is kept: CONNACK with %d", ack.ReasonCode)
	}
}
