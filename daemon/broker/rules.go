package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// newServer returns the MQTT server. Its Serve is never called, because that would only add
// listeners and statistics. Each connection goes to EstablishConnection, and no goroutine
// outlives its connection.
func newServer(o Options) (*mqtt.Server, error) {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MinimumProtocolVersion = 4
	limits.MaximumQos = 1
	limits.MaximumInflight = 1000
	limits.MaximumMessageExpiryInterval = 0             // nothing expires in a session
	limits.TopicAliasMaximum = 0                        // a topic is always written out
	limits.MaximumPacketSize = awsiot.PayloadMax + 4096 // refused before it is read
	server := mqtt.New(&mqtt.Options{Capabilities: limits, Logger: slog.New(slog.DiscardHandler)})
	err := server.AddHook(&rules{policy: o.Policy, ackDenied: o.AckDenied, silent: o.Silent, rates: o.Rates, now: clockOf(o), server: server, authority: o.authority, log: o.Log}, nil)
	return server, err
}

// rules makes the server behave like AWS IoT Core. Its methods are called on the goroutine of
// the client that they are about; for a delivery, on the publisher's.
type rules struct {
	mqtt.HookBase
	policy    *awsiot.Policy
	ackDenied bool
	silent    bool
	rates     bool
	now       func() time.Time
	server    *mqtt.Server
	authority *authority // nil: devices are not provisioned
	log       *slog.Logger
}

// ID names the hook to the server.
func (r *rules) ID() string { return "fieldpost" }

// Provides says which events the hook handles.
func (r *rules) Provides(event byte) bool {
	switch event {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnDisconnect,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnQosPublish, mqtt.OnACLCheck, mqtt.OnSubscribed:
		return true
	}
	return false
}

// OnConnectAuthenticate accepts everybody: TLS has authenticated the client.
func (r *rules) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnConnect returns an error to close the connection without a CONNACK.
func (r *rules) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if id := pk.Connect.ClientIdentifier; id != "" {
		if err := awsiot.CheckClientID(id); err != nil {
			return r.refuse(cl, "iot:Connect", "client/"+id, err)
		}
	}
	if conn, ok := cl.Net.Conn.(*identified); ok && r.authority != nil && conn.certificate != nil {
		if err := r.authority.admit(conn.certificate.ID); err != nil {
			return r.refuse(cl, "iot:Connect", "client/"+cl.ID, err)
		}
	}
	if err := r.askBy(connection(cl, pk), cl, "iot:Connect", "client/"+cl.ID); err != nil {
		if explains(cl, err) {
			_ = cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack},
				ProtocolVersion: cl.Properties.ProtocolVersion, ReasonCode: packets.ErrNotAuthorized.Code})
		}
		return r.refuse(cl, "iot:Connect", "client/"+cl.ID, err)
	}
	if keepAlive := held(pk.Connect.Keepalive); keepAlive != pk.Connect.Keepalive {
		cl.State.Keepalive = keepAlive
		cl.State.ServerKeepalive = true // sent to MQTT 5 clients
	}
	if pk.Connect.WillFlag {
		if action, err := r.mayPublish(cl, pk.Connect.WillTopic, pk.Connect.WillRetain, len(pk.Connect.WillPayload)); err != nil {
			_ = r.refuse(cl, action, "topic/"+pk.Connect.WillTopic, err)
			cl.Properties.Will = mqtt.Will{}
		}
	}
	r.expire(cl.ID)
	return nil
}

// connection returns what a CONNECT says about the connection.
func connection(cl *mqtt.Client, pk packets.Packet) *awsiot.Connection {
	by := &awsiot.Connection{ClientID: cl.ID}
	if persistent(pk) {
		by.ConnectAttributes = append(by.ConnectAttributes, awsiot.PersistentConnect)
	}
	if pk.Connect.WillFlag {
		by.ConnectAttributes = append(by.ConnectAttributes, awsiot.LastWill)
		by.LastWillTopic = pk.Connect.WillTopic
	}
	return by
}

// persistent reports whether a CONNECT asks for a session that outlives the connection: in MQTT
// 3.1.1 one that is not clean, in MQTT 5 one with an expiry.
func persistent(pk packets.Packet) bool {
	if pk.ProtocolVersion >= 5 {
		return pk.Properties.SessionExpiryInterval > 0
	}
	return !pk.Connect.Clean
}

// held returns the keep-alive that AWS enforces, in seconds.
func held(asked uint16) uint16 {
	const least, most = uint16(awsiot.KeepAliveMin / time.Second), uint16(awsiot.KeepAliveMax / time.Second)
	if asked == 0 || asked > most {
		return most
	}
	return max(asked, least)
}

// expire removes a session that a client left too long ago.
func (r *rules) expire(id string) {
	old, ok := r.server.Clients.Get(id)
	if !ok || old.StopTime() == 0 {
		return
	}
	if time.Since(time.Unix(old.StopTime(), 0)) > awsiot.SessionExpiry {
		r.server.UnsubscribeClient(old)
		old.ClearInflights()
		r.server.Clients.Delete(id)
	}
}

// OnSessionEstablished logs a new client.
func (r *rules) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	r.log.Info("client connected", "client", cl.ID, "remote", cl.Net.Remote)
}

// OnDisconnect logs that a client has gone, and why, unless it disconnected itself.
func (r *rules) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	if err == nil {
		err = cl.StopCause()
	}
	log := r.log.With("client", cl.ID)
	if err != nil && !errors.Is(err, packets.CodeDisconnect) {
		log = log.With("cause", err)
	}
	log.Info("client disconnected")
}

// OnPacketRead gets every packet before the server does. ErrRejectPacket closes the connection.
func (r *rules) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		action, err := r.mayPublish(cl, pk.TopicName, pk.FixedHeader.Retain, len(pk.Payload))
		if err != nil {
			said := explains(cl, err)
			err = r.refuse(cl, action, "topic/"+pk.TopicName, err)
			switch {
			case said && pk.FixedHeader.Qos == 1:
				return r.deniedPublish(cl, pk)
			case said:
				_ = r.server.DisconnectClient(cl, packets.ErrNotAuthorized)
				return pk, err
			case !r.ackDenied:
				return pk, err
			}
			pk.Ignore = true
		}
		if pk.FixedHeader.Qos > 1 {
			return r.unanswered(cl, pk), nil
		}
		if r.discards(cl) {
			return nothing(pk), nil
		}
		if err := r.provision(cl, pk); err != nil {
			return pk, err
		}
		pk.PacketID = -pk.PacketID
	case packets.Subscribe:
		if filter, err := r.maySubscribe(cl, pk.Filters); err != nil {
			said, code := explains(cl, err), packets.ErrUnspecifiedError.Code
			if said {
				code = packets.ErrNotAuthorized.Code
			}
			if err = r.refuse(cl, "iot:Subscribe", "topicfilter/"+filter, err); !said && !r.ackDenied {
				return pk, err
			}
			return r.denied(cl, pk, code)
		}
		for _, sub := range pk.Filters {
			if sub.Qos > 1 {
				return r.unanswered(cl, pk), nil
			}
		}
		pk.PacketID = -pk.PacketID
	case packets.Unsubscribe:
		pk.PacketID = -pk.PacketID
	}
	return pk, nil
}

// OnPacketEncode gets every packet before it is sent.
//
// The server keeps the packet ids that it gives and those that clients give in
// one table, so that a SUBSCRIBE is refused because a delivery has the same
// id. Ids of clients are negated on their way in and, here, out again: both
// then count towards each other from the two ends (MQTT 3.1.1, 2.3.1).
func (r *rules) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Suback, packets.Unsuback:
		pk.PacketID = -pk.PacketID
	case packets.Disconnect:
		if cl.Properties.ProtocolVersion < 5 {
			pk.FixedHeader.Type = packets.Reserved // cannot be encoded, so is not sent
		}
	}
	return pk
}

// OnQosPublish is called when the server has noted what it is about to send. A
// PUBACK that could not be sent must not stay there: sent in the next
// connection, it would acknowledge another message of the same id.
func (r *rules) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	if pk.FixedHeader.Type == packets.Puback {
		cl.State.Inflight.Delete(pk.PacketID)
	}
}

// nothing makes of a packet one that changes nothing: a PUBACK for nothing.
func nothing(pk packets.Packet) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: pk.ProtocolVersion}
}

// unanswered takes a packet of QoS 2.
func (r *rules) unanswered(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	r.log.Warn("qos 2 is never answered", "client", cl.ID, "packet", packets.PacketNames[pk.FixedHeader.Type])
	return nothing(pk)
}

// discards reports whether a PUBLISH is above the rate.
func (r *rules) discards(cl *mqtt.Client) bool {
	conn, ok := cl.Net.Conn.(*identified)
	if !r.rates || !ok {
		return false
	}
	excess := conn.published.admits(r.now())
	if excess == 1 {
		r.log.Warn("publishes are discarded until the second is over", "client", cl.ID, "rate", awsiot.PublishRate)
	}
	return excess > 0
}

// deniedPublish answers a PUBLISH with a PUBACK that says no, which MQTT 5 has, and makes of
// it one that changes nothing.
func (r *rules) deniedPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	err := cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback},
		ProtocolVersion: pk.ProtocolVersion, PacketID: -pk.PacketID, ReasonCode: packets.ErrNotAuthorized.Code})
	return nothing(pk), err
}

// denied answers a SUBSCRIBE with as many refusals as it has filters, and makes of
// it one that changes nothing.
func (r *rules) denied(cl *mqtt.Client, pk packets.Packet, code byte) (packets.Packet, error) {
	suback := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, ProtocolVersion: pk.ProtocolVersion, PacketID: -pk.PacketID}
	for range pk.Filters {
		suback.ReasonCodes = append(suback.ReasonCodes, code)
	}
	if err := cl.WritePacket(suback); err != nil {
		return pk, err
	}
	return nothing(pk), nil
}

// OnACLCheck is asked by the server for three things. Publishing and
// subscribing have been decided in OnPacketRead; what remains is the delivery
// of a topic, which has no wildcards.
func (r *rules) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if write || strings.ContainsAny(topic, "+#") || mqtt.IsSharedFilter(topic) {
		return true
	}
	return r.ask(cl, "iot:Receive", "topic/"+topic) == nil
}

// OnSubscribed may change the codes of a SUBACK. A filter without wildcards
// whose topic may not be received is granted by AWS, and then nothing comes;
// the server has answered no, having asked OnACLCheck.
func (r *rules) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	for i, sub := range pk.Filters {
		if codes[i] >= packets.ErrUnspecifiedError.Code && !r.OnACLCheck(cl, sub.Filter, false) {
			codes[i] = sub.Qos
		}
	}
}

// mayPublish returns the action that was refused with the reason.
func (r *rules) mayPublish(cl *mqtt.Client, topic string, retain bool, size int) (string, error) {
	if err := awsiot.CheckTopic(topic); err != nil {
		return "iot:Publish", err
	}
	if size > awsiot.PayloadMax {
		return "iot:Publish", fmt.Errorf("payload has %d bytes, AWS IoT Core takes %d", size, awsiot.PayloadMax)
	}
	if err := r.ask(cl, "iot:Publish", "topic/"+topic); err != nil || !retain {
		return "iot:Publish", err
	}
	if strings.HasPrefix(topic, "$aws/") {
		return "iot:RetainPublish", errors.New("messages to reserved topics ($aws/...) cannot be retained, whatever the policy says")
	}
	return "iot:RetainPublish", r.ask(cl, "iot:RetainPublish", "topic/"+topic)
}

// maySubscribe returns the first filter that was refused with the reason.
func (r *rules) maySubscribe(cl *mqtt.Client, filters packets.Subscriptions) (string, error) {
	if n := len(filters); n > awsiot.SubscribeFilters {
		return filters[0].Filter, fmt.Errorf("%d filters at once, AWS IoT Core takes %d", n, awsiot.SubscribeFilters)
	}
	count := cl.State.Subscriptions.Len()
	for _, sub := range filters {
		if err := awsiot.CheckTopic(sub.Filter); err != nil {
			return sub.Filter, err
		}
		if !mqtt.IsValidFilter(sub.Filter, false) {
			return sub.Filter, fmt.Errorf("%q is no topic filter", sub.Filter)
		}
		if err := r.ask(cl, "iot:Subscribe", "topicfilter/"+sub.Filter); err != nil {
			return sub.Filter, err
		}
		if _, ok := cl.State.Subscriptions.Get(sub.Filter); !ok {
			count++
		}
		if count > awsiot.Subscriptions {
			return sub.Filter, fmt.Errorf("%d subscriptions, AWS IoT Core takes %d", count, awsiot.Subscriptions)
		}
	}
	return "", nil
}

// ask puts a question to the policy. The error is a *denial.
func (r *rules) ask(cl *mqtt.Client, action, resource string) error {
	return r.askBy(&awsiot.Connection{ClientID: cl.ID}, cl, action, resource)
}

// askBy is ask for a connection of which more is known than each of its packets
// says.
func (r *rules) askBy(by *awsiot.Connection, cl *mqtt.Client, action, resource string) error {
	policy := r.policy
	by.Thing = &awsiot.Thing{Name: cl.ID, Attached: true}
	if conn, ok := cl.Net.Conn.(*identified); ok {
		by.Certificate, by.SourceIP, by.Domain = conn.certificate, conn.source, conn.ConnectionState().ServerName
		if r.authority != nil && conn.certificate != nil {
			thing := ""
			policy, thing = r.authority.policyFor(conn.certificate.ID, r.policy)
			by.Thing.Attached = thing == "" || thing == cl.ID
		}
	}
	if policy == nil {
		return nil
	}
	if d := policy.Decide(awsiot.Request{Action: action, Resource: resource, By: by}); !d.Allowed {
		return &denial{d}
	}
	return nil
}

// denial is a policy's no, as against one for a limit.
type denial struct{ awsiot.Decision }

// Error returns the decision in words.
func (d *denial) Error() string { return d.String() }

// refuse tells us what AWS would not tell anybody, and closes the connection.
func (r *rules) refuse(cl *mqtt.Client, action, resource string, reason error) error {
	if r.silent {
		return packets.ErrRejectPacket
	}
	log := r.log.With("client", cl.ID, "action", action, "resource", resource, "reason", reason)
	var d *denial
	if errors.As(reason, &d) && len(d.Inferred) > 0 {
		log = log.With("inferred", strings.Join(d.Inferred, "; "))
	}
	log.Warn("refused")
	return packets.ErrRejectPacket
}

// explains reports whether a refusal is answered with a reason code: over MQTT 5, and
// where it is the policy's.
func explains(cl *mqtt.Client, reason error) bool {
	var d *denial
	return cl.Properties.ProtocolVersion >= 5 && errors.As(reason, &d)
}
