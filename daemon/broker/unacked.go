package broker

import (
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// unacked are the messages of QoS 1 that one connection was sent and has not acknowledged.
// AWS IoT Core has at most [awsiot.ReceiveMax] of them under way; later messages wait in the
// session. Towards us there is no such limit to reach: each PUBLISH is acknowledged or
// discarded when it is read. Any goroutine.
type unacked struct {
	mu   sync.Mutex
	sent map[uint16]bool
	held []uint16 // packet ids of messages in the session, the oldest first
}

// admits reports whether a message may be sent now, and counts it. Otherwise its packet id is
// kept for [unacked.next].
func (u *unacked) admits(id uint16) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.sent[id] && (len(u.sent) >= awsiot.ReceiveMax || len(u.held) > 0) {
		u.held = append(u.held, id)
		return false
	}
	if u.sent == nil {
		u.sent = map[uint16]bool{}
	}
	u.sent[id] = true
	return true
}

// done forgets a message that was acknowledged, or not sent after all.
func (u *unacked) done(id uint16) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sent, id)
}

// next returns the packet id of the message to send next, and counts it. ok is false if none
// waits, or too many are under way.
func (u *unacked) next() (id uint16, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.held) == 0 || len(u.sent) >= awsiot.ReceiveMax {
		return 0, false
	}
	id, u.held = u.held[0], u.held[1:]
	u.sent[id] = true
	return id, true
}

// OnQosComplete is called when a client has acknowledged a message. It sends those that have
// waited for that.
func (r *rules) OnQosComplete(cl *mqtt.Client, pk packets.Packet) {
	conn, ok := cl.Net.Conn.(*identified)
	if !ok || conn.rates == nil || pk.FixedHeader.Type != packets.Puback {
		return
	}
	conn.unacked.done(pk.PacketID)
	for id, ok := conn.unacked.next(); ok; id, ok = conn.unacked.next() {
		held, kept := cl.State.Inflight.Get(id)
		if !kept || cl.WritePacket(held) != nil {
			conn.unacked.done(id)
		}
	}
}

// holds reports whether a message to a client is not to be sent now: it is above a rate, or
// has to wait for an acknowledgement.
func (r *rules) holds(cl *mqtt.Client, pk packets.Packet) bool {
	conn, ok := cl.Net.Conn.(*identified)
	if !ok || conn.rates == nil || pk.FixedHeader.Qos == 0 {
		return r.discardsDelivery(cl, pk)
	}
	if !conn.unacked.admits(pk.PacketID) {
		return true
	}
	if r.discardsDelivery(cl, pk) {
		conn.unacked.done(pk.PacketID)
		return true
	}
	return false
}
