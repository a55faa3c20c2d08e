package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/topic"
)

// newServer returns the MQTT server. Its Serve is never called, because that would only add
// listeners and statistics. Each connection goes to EstablishConnection, and no goroutine
// outlives its connection.
func newServer(o Options, registry *registry) (*mqtt.Server, *rules, error) {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MinimumProtocolVersion = 4
	limits.MaximumQos = 1
	limits.MaximumInflight = 1000
	limits.ReceiveMaximum = awsiot.ReceiveMax
	limits.SubIDAvailable, limits.SharedSubAvailable = 0, 1
	limits.MaximumMessageExpiryInterval = 0 // nothing expires by itself
	limits.MaximumSessionExpiryInterval = uint32(o.SessionExpiry / time.Second)
	limits.TopicAliasMaximum = 0                        // a topic is always written out
	limits.MaximumPacketSize = awsiot.PayloadMax + 4096 // refused before it is read
	// The server collects packets while more are to be sent, and writes them with the last. That
	// one may be a message that is not sent after all ([rules.OnPacketEncode]), so it collects none.
	server := mqtt.New(&mqtt.Options{Capabilities: limits, ClientNetWriteBufferSize: 1, Logger: slog.New(slog.DiscardHandler)})
	r := &rules{registry: registry, ackDenied: o.AckDenied, silent: o.Silent, rates: o.Rates, sessionExpiry: o.SessionExpiry,
		now: o.now, nap: o.nap, server: server, authority: o.authority, log: o.Log}
	return server, r, server.AddHook(r, nil)
}

// rules makes the server behave like AWS IoT Core. Its methods are called on the goroutine of
// the client that they are about; for a delivery, on the publisher's.
type rules struct {
	mqtt.HookBase
	registry      *registry
	ackDenied     bool
	silent        bool
	rates         bool
	sessionExpiry time.Duration
	now           func() time.Time
	nap           func(ctx context.Context, d time.Duration) error
	server        *mqtt.Server
	authority     *authority // nil: devices are not provisioned
	log           *slog.Logger
	connects      connects
	takeovers     takeovers
	stored        stored
	watchers      watchers
}

// ID names the hook to the server.
func (r *rules) ID() string { return "fieldpost" }

// Provides says which events the hook handles.
func (r *rules) Provides(event byte) bool {
	switch event {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnDisconnect,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPublish, mqtt.OnPublished, mqtt.OnWillSent, mqtt.OnQosPublish, mqtt.OnQosComplete, mqtt.OnACLCheck, mqtt.OnSubscribe, mqtt.OnSubscribed:
		return true
	}
	return false
}

// OnConnectAuthenticate accepts everybody: TLS has authenticated the client.
func (r *rules) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnConnect returns an error to close the connection. Over MQTT 5 a CONNACK with the reason
// goes before.
func (r *rules) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if err := r.mayConnect(cl, pk); err != nil {
		if code, said := explains(cl, err); said {
			_ = cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack},
				ProtocolVersion: cl.Properties.ProtocolVersion, ReasonCode: code})
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
	r.takeOver(cl)
	r.expire(cl.ID)
	return nil
}

// mayConnect returns why a CONNECT is refused.
func (r *rules) mayConnect(cl *mqtt.Client, pk packets.Packet) error {
	if id := pk.Connect.ClientIdentifier; id != "" {
		if err := awsiot.CheckClientID(id); err != nil {
			return &limit{packets.ErrClientIdentifierNotValid, err}
		}
	}
	if r.rates && !r.connects.admits(cl.ID, r.now()) {
		return &limit{packets.ErrQuotaExceeded, fmt.Errorf("the last CONNECT of this client id was less than %v ago; AWS IoT Core takes no sooner one", awsiot.ConnectEvery)}
	}
	if conn, ok := cl.Net.Conn.(*identified); ok {
		if conn.device != nil && conn.device.Inactive {
			return &limit{packets.ErrNotAuthorized, fmt.Errorf("the certificate of %q is INACTIVE", conn.device.Name)}
		}
		if r.authority != nil && conn.certificate != nil {
			if err := r.authority.admit(conn.certificate.ID); err != nil {
				return &limit{packets.ErrNotAuthorized, err}
			}
		}
	}
	return r.askBy(connection(cl, pk), cl, "iot:Connect", "client/"+cl.ID)
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

// OnSessionEstablished logs a new client, and begins to send it what its session kept.
func (r *rules) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if conn, ok := cl.Net.Conn.(*identified); ok && r.rates {
		conn.sending.Go(func() { r.sendStored(conn.rates.ctx, cl) })
	}
	r.log.Info("client connected", "client", cl.ID, "remote", cl.Net.Remote)
}

// OnDisconnect logs that a client has gone, and why, unless it disconnected itself.
func (r *rules) OnDisconnect(cl *mqtt.Client, err error, expire bool) {
	if expire {
		r.stored.forget(cl.ID, cl)
	}
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
		return r.readPublish(cl, pk)
	case packets.Subscribe:
		return r.readSubscribe(cl, pk)
	case packets.Unsubscribe:
		pk.PacketID = -pk.PacketID
	}
	return pk, nil
}

func (r *rules) readPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if action, err := r.mayPublish(cl, pk.TopicName, pk.FixedHeader.Retain, len(pk.Payload)); err != nil {
		code, said := explains(cl, err)
		err = r.refuse(cl, action, "topic/"+pk.TopicName, err)
		switch {
		case said && pk.FixedHeader.Qos == 1 && code != packets.ErrPacketTooLarge.Code:
			return r.deniedPublish(cl, pk, code)
		case said:
			_ = r.server.DisconnectClient(cl, packets.Code{Code: code, Reason: "refused"})
			return pk, err
		case !r.ackDenied:
			return pk, err
		}
		pk.Ignore = true
	}
	if pk.FixedHeader.Qos > 1 {
		return r.unanswered(cl, pk)
	}
	if r.discards(cl) {
		return nothing(pk), nil
	}
	if err := r.provision(cl, pk); err != nil {
		return pk, err
	}
	pk.PacketID = -pk.PacketID
	return pk, nil
}

func (r *rules) readSubscribe(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if filter, err := r.maySubscribe(cl, pk.Filters); err != nil {
		code, said := explains(cl, err)
		if !said {
			code = packets.ErrUnspecifiedError.Code
		}
		if err = r.refuse(cl, "iot:Subscribe", "topicfilter/"+filter, err); !said && !r.ackDenied {
			return pk, err
		}
		return r.denied(cl, pk, code)
	}
	for _, sub := range pk.Filters {
		if sub.Qos > 1 {
			return r.unanswered(cl, pk)
		}
	}
	pk.PacketID = -pk.PacketID
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
	case packets.Connack:
		if cl.Properties.ProtocolVersion >= 5 && pk.ReasonCode == 0 {
			pk.Properties.MaximumPacketSize = r.server.Options.Capabilities.MaximumPacketSize
		}
	case packets.Publish:
		if r.expired(pk) || r.holds(cl, pk) {
			pk.FixedHeader.Type = packets.Reserved // cannot be encoded, so is not sent
			return pk
		}
		r.remaining(&pk)
	case packets.Disconnect:
		if cl.Properties.ProtocolVersion < 5 {
			pk.FixedHeader.Type = packets.Reserved
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

// unanswered takes a packet of QoS 2. Over MQTT 5 a client was told in the CONNACK that it may
// not publish with it.
func (r *rules) unanswered(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	r.log.Warn("qos 2 is never answered", "client", cl.ID, "packet", packets.PacketNames[pk.FixedHeader.Type])
	if pk.FixedHeader.Type == packets.Publish && cl.Properties.ProtocolVersion >= 5 {
		_ = r.server.DisconnectClient(cl, packets.ErrQosNotSupported)
		return pk, packets.ErrRejectPacket
	}
	return nothing(pk), nil
}

// discards reports whether a PUBLISH of a client is above the rate.
func (r *rules) discards(cl *mqtt.Client) bool {
	conn, ok := cl.Net.Conn.(*identified)
	if !ok || conn.rates == nil {
		return false
	}
	excess := conn.rates.publish()
	if excess == 1 {
		r.log.Warn("publishes are discarded until the second is over", "client", cl.ID, "rate", awsiot.PublishRate)
	}
	return excess > 0
}

// discardsDelivery reports whether a PUBLISH to a client is above the rate. What a session
// keeps, the next connection gets; that is not counted.
func (r *rules) discardsDelivery(cl *mqtt.Client, pk packets.Packet) bool {
	conn, ok := cl.Net.Conn.(*identified)
	if !ok || conn.rates == nil || pk.FixedHeader.Dup {
		return false
	}
	excess := conn.rates.deliver()
	if excess == 1 {
		r.log.Warn("messages to the client are discarded until the second is over", "client", cl.ID, "rate", awsiot.PublishRate)
	}
	return excess > 0
}

// deniedPublish answers a PUBLISH with a PUBACK that says no, which MQTT 5 has, and makes of
// it one that changes nothing.
func (r *rules) deniedPublish(cl *mqtt.Client, pk packets.Packet, code byte) (packets.Packet, error) {
	err := cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback},
		ProtocolVersion: pk.ProtocolVersion, PacketID: -pk.PacketID, ReasonCode: code})
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
	if write || hasWildcard(topic) || mqtt.IsSharedFilter(topic) {
		return true
	}
	return !overlooks(cl, topic) && r.ask(cl, "iot:Receive", "topic/"+topic) == nil
}

// overlooks reports whether a client's subscriptions match a topic by MQTT's rules, and not by
// AWS's: there a/# does not match a.
func overlooks(cl *mqtt.Client, name string) bool {
	parent := false
	for filter := range cl.State.Subscriptions.GetAll() {
		above, open := strings.CutSuffix(filter, "/#")
		switch {
		case mqtt.IsSharedFilter(filter):
			return false
		case open && topic.Matches(above, name):
			parent = true
		case topic.Matches(filter, name):
			return false
		}
	}
	return parent
}

func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

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
		return "iot:Publish", &limit{packets.ErrTopicNameInvalid, err}
	}
	if size > awsiot.PayloadMax {
		return "iot:Publish", &limit{packets.ErrPacketTooLarge, fmt.Errorf("payload has %d bytes, AWS IoT Core takes %d", size, awsiot.PayloadMax)}
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
		return filters[0].Filter, &limit{packets.ErrQuotaExceeded, fmt.Errorf("%d filters at once, AWS IoT Core takes %d", n, awsiot.SubscribeFilters)}
	}
	count := cl.State.Subscriptions.Len()
	for _, sub := range filters {
		if err := awsiot.CheckTopic(sub.Filter); err != nil {
			return sub.Filter, &limit{packets.ErrTopicFilterInvalid, err}
		}
		if !mqtt.IsValidFilter(sub.Filter, false) {
			return sub.Filter, &limit{packets.ErrTopicFilterInvalid, fmt.Errorf("%q is no topic filter", sub.Filter)}
		}
		if err := r.ask(cl, "iot:Subscribe", "topicfilter/"+sub.Filter); err != nil {
			return sub.Filter, err
		}
		if _, ok := cl.State.Subscriptions.Get(sub.Filter); !ok {
			count++
		}
		if count > awsiot.Subscriptions {
			return sub.Filter, &limit{packets.ErrQuotaExceeded, fmt.Errorf("%d subscriptions, AWS IoT Core takes %d", count, awsiot.Subscriptions)}
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
	conn, ok := cl.Net.Conn.(*identified)
	if !ok {
		conn = &identified{}
	} else {
		by.Certificate, by.SourceIP, by.Domain = conn.certificate, conn.source, conn.ConnectionState().ServerName
	}
	policy := r.registry.policyOf(conn.device)
	by.Thing, by.Time = r.registry.thingOf(conn.device, cl.ID), r.now()
	if conn.device == nil && conn.certificate != nil && r.authority != nil {
		thing := ""
		policy, thing = r.authority.policyFor(conn.certificate.ID, policy)
		by.Thing.Attached = thing == "" || thing == cl.ID
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

// limit is a no for a limit of AWS IoT Core, with its reason code of MQTT 5.
type limit struct {
	code packets.Code
	error
}

// explains returns the reason code by which a refusal is answered over MQTT 5, and whether
// it is answered.
func explains(cl *mqtt.Client, reason error) (code byte, said bool) {
	if cl.Properties.ProtocolVersion < 5 {
		return 0, false
	}
	var d *denial
	var l *limit
	switch {
	case errors.As(reason, &d):
		return packets.ErrNotAuthorized.Code, true
	case errors.As(reason, &l):
		return l.code.Code, true
	}
	return 0, false
}
