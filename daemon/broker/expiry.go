package broker

import (
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// expired reports whether a message had an expiry of MQTT 5 that is over. It depends on the
// publisher alone: what it published over MQTT 5 also expires for a subscriber of 3.1.1.
func (r *rules) expired(pk packets.Packet) bool {
	life := int64(pk.Properties.MessageExpiryInterval)
	return pk.FixedHeader.Type == packets.Publish && life > 0 && r.now().Unix() >= pk.Created+life
}

// OnPublish limits the expiry of a message.
func (r *rules) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	const most = uint32(awsiot.MessageExpiryMax / time.Second)
	pk.Created, pk.Expiry = r.now().Unix(), 0
	if life := pk.Properties.MessageExpiryInterval; life > 0 {
		pk.Properties.MessageExpiryInterval = min(life, most)
		pk.Expiry = pk.Created + int64(pk.Properties.MessageExpiryInterval)
	}
	return pk, nil
}

// OnSessionEstablish takes out of a session, before it goes on, what has expired in it, and what
// is to be sent at the rate of stored messages.
func (r *rules) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	old, ok := r.server.Clients.Get(cl.ID)
	if r.rates {
		defer r.stored.take(cl, old, pk.Connect.Clean)
	}
	if !ok {
		return
	}
	for _, pk := range old.State.Inflight.GetAll(false) {
		if r.expired(pk) {
			old.State.Inflight.Delete(pk.PacketID)
			r.log.Info("message expired", "client", cl.ID, "topic", pk.TopicName)
		}
	}
}

// OnSubscribe removes retained messages that have expired, and has none sent for a filter with
// wildcards. The filters are noted here already, so that the question whether a topic may be
// delivered finds them; see [rules.overlooks].
func (r *rules) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	for topic, kept := range r.server.Topics.Retained.GetAll() {
		if r.expired(kept) {
			r.server.Topics.Retained.Delete(topic)
		}
	}
	for i, sub := range pk.Filters {
		if hasWildcard(sub.Filter) {
			pk.Filters[i].RetainHandling = 2 // none
		}
		cl.State.Subscriptions.Add(sub.Filter, pk.Filters[i])
	}
	return pk
}

// remaining sets the expiry of a message that is about to be sent.
func (r *rules) remaining(pk *packets.Packet) {
	if pk.Expiry > 0 {
		pk.Properties.MessageExpiryInterval = uint32(max(pk.Expiry-r.now().Unix(), 1))
	}
}

// expire removes a session that a client left too long ago.
func (r *rules) expire(id string) {
	old, ok := r.server.Clients.Get(id)
	if !ok || old.StopTime() == 0 {
		return
	}
	kept := r.sessionExpiry
	if old.Properties.ProtocolVersion >= 5 {
		kept = min(kept, time.Duration(old.Properties.Props.SessionExpiryInterval)*time.Second)
	}
	if r.now().Sub(time.Unix(old.StopTime(), 0)) > kept {
		r.server.UnsubscribeClient(old)
		old.ClearInflights()
		r.server.Clients.Delete(id)
		r.stored.forget(id, nil)
	}
}
