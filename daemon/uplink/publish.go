package uplink

import (
	"context"
	"fmt"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/topic"
)

// Publishing bypasses the protocol client. There each message passes through three goroutines
// on its way out and two on its way back, has its own timer and store entry, and is one TLS
// record. All that costs several times as much as sending. The client handles only the
// beginning and the end of the connection.

// maxPayload is the largest payload, in bytes. The limit of AWS IoT Core is used for every
// broker, so that a configuration that works with one broker works with another.
const maxPayload = awsiot.PayloadMax

// unsendable returns why a message can never be sent, or "" if it can.
func unsendable(m Publication) string {
	if len(m.Payload) > maxPayload {
		return fmt.Sprintf("payload of %d bytes, more than %d", len(m.Payload), maxPayload)
	}
	if err := topic.Check(m.Topic); err != nil {
		return fmt.Sprintf("topic %.256q %v", m.Topic, err)
	}
	return ""
}

// Limits of what the publisher takes from the outbox before it returns to the connection's
// loop.
const (
	fillMessages = 64
	fillBytes    = 512 << 10 // bytes of payloads
)

const (
	ackTimeout = 30 * time.Second // for a PUBACK

	recordBytes = 16 << 10 // size of a TLS record (RFC 8446, section 5.1); at most so much is buffered
	keptBytes   = 2 * recordBytes
)

// publisher sends messages from the outbox on one connection, at QoS 1, and reports
// acknowledgements to the outbox. Only Run's goroutine uses it.
type publisher struct {
	link      *Link
	transport *transport
	exchange  *exchange
	pinger    *pinger
	echo      *echoListener

	window   window       // the messages in flight
	meter    sentMeter    // what was sent in the current second
	next     *Publication // taken from the outbox, waits to be sent
	out      []byte       // buffered packets
	farewell uint16       // the farewell's packet identifier, until its PUBACK has come
	trial    bool         // the message in flight tries a held topic, alone
	sent     bool         // anything was sent
	acked    uint64       // number of acknowledged messages
	caughtUp bool         // everything in the outbox was sent; nothing waits for room in the window
}

// rewind makes the outbox return everything that is not acknowledged again.
func (p *publisher) rewind() {
	p.next = nil
	p.link.cfg.Outbox.Rewind()
}

// fill sends messages, in few writes, until the window is full or the outbox has nothing now.
// It returns more if it stopped only to return to the loop, and otherwise how long there will
// be nothing to do unless something happens.
func (p *publisher) fill() (more bool, wait time.Duration) {
	defer p.flush()
	p.caughtUp = false
	outbox, topics := p.link.cfg.Outbox, &p.link.topics
	seen := 0
	for n := 0; n < fillMessages && seen < fillBytes; n++ {
		if p.window.len() >= p.maxInFlight() || p.transport.over() {
			return false, heartbeatEvery
		}
		now := time.Now()
		if p.window.full(now) {
			return false, heartbeatEvery
		}
		if d := p.link.rate.wait(now); d > 0 {
			return false, min(d, heartbeatEvery)
		}
		m, ok := p.takeNext()
		if !ok {
			p.caughtUp = true
			return false, p.untilDue()
		}
		seen += len(m.Payload)
		if bad := unsendable(m); bad != "" {
			p.link.cfg.Log.Warn("message can never be sent", "topic", m.Topic, "reason", bad)
			outbox.Refuse(m.ID, bad)
			continue
		}
		trial := topics.isTrial(m.Topic, m.ID)
		if topics.held(m.Topic) && !trial {
			outbox.Hold(m.ID) // it is returned again after a rewind
			continue
		}
		if trial && p.window.len() > 0 {
			p.holdBack(m) // sent alone, so that a hang-up is about it
			return false, heartbeatEvery
		}
		if d := p.link.rate.waitForLarge(m, time.Now()); d > 0 {
			p.holdBack(m)
			return false, min(d, heartbeatEvery)
		}
		p.trial = trial
		p.publish(m)
	}
	return true, 0
}

// maxInFlight returns how many messages may be in flight.
func (p *publisher) maxInFlight() int {
	if p.trial {
		return 1
	}
	return p.link.topics.window(p.link.cfg.Window)
}

// holdBack keeps a message that must wait.
func (p *publisher) holdBack(m Publication) { p.next = &m }

// takeNext returns the message that had to wait, or the next one of the outbox.
func (p *publisher) takeNext() (Publication, bool) {
	if m := p.next; m != nil {
		p.next = nil
		return *m, true
	}
	return p.link.cfg.Outbox.Next()
}

// untilDue returns how long the outbox will have nothing, unless it signals.
func (p *publisher) untilDue() time.Duration {
	if b, ok := p.link.cfg.Outbox.(Batcher); ok {
		if due := b.Due(); !due.IsZero() {
			return min(heartbeatEvery, max(0, time.Until(due)))
		}
	}
	return heartbeatEvery
}

// publish sends one message.
func (p *publisher) publish(m Publication) {
	now := time.Now()
	p.sent, p.exchange.asked = true, now
	p.link.rate.noteSent(m, now)
	f := inFlight{id: m.ID, packet: p.transport.ids.next(), topic: m.Topic, size: packetSize(m), sent: now, urgent: m.Urgent, overAWSRate: p.meter.add(m, now)}
	p.window.add(f)
	p.exchange.phase = Publishing
	p.echo.sent(m, f.packet)
	p.write(f.packet, m)
}

// write buffers a PUBLISH packet; flush writes it at the latest.
func (p *publisher) write(packet uint16, m Publication) {
	first := len(p.out)
	p.out = appendPublish(p.out, packet, m.Topic, m.Payload)
	if m.Retain {
		p.out[first] |= retainFlag
	}
	if len(p.out) >= recordBytes {
		p.flush()
	}
}

// flush writes the buffered packets.
func (p *publisher) flush() {
	if len(p.out) == 0 {
		return
	}
	if _, err := p.transport.Write(p.out); err != nil {
		p.transport.fail(err) // the protocol client will notice the end
	}
	if p.out = p.out[:0]; cap(p.out) > keptBytes {
		p.out = nil
	}
}

// awaitPubacks sets, before a wait, the number of PUBACKs that wake this goroutine. If
// nothing depends on them, that is all in flight, or half a window. It returns how long the
// goroutine may wait for them before it handles those that have come.
func (p *publisher) awaitPubacks() (atMost time.Duration) {
	n, urgent := p.window.unacked()
	if delay := p.link.cfg.AckDelay; delay > 0 && p.caughtUp && !urgent && n > 1 {
		p.transport.pubacks.await(min(n, p.link.cfg.Window/2))
		return delay
	}
	p.transport.pubacks.await(1)
	return heartbeatEvery
}

// acknowledge reports acknowledgements to the outbox, in order.
func (p *publisher) acknowledge() {
	p.readPubacks()
	p.reportAcked(p.window.takeAcked())
	if p.window.len() == 0 {
		p.exchange.phase, p.trial = Idle, false
	}
}

// acknowledgeRest reports acknowledgements to the outbox after the end of the connection, in
// any order.
func (p *publisher) acknowledgeRest() {
	p.readPubacks()
	p.reportAcked(p.window.takeAllAcked())
	if p.exchange.phase == Publishing && p.window.len() == 0 {
		p.exchange.phase = Idle
	}
}

// readPubacks records the PUBACKs that have come.
func (p *publisher) readPubacks() {
	p.transport.pubacks.takeEach(func(packet uint16, at time.Time) {
		if packet == p.farewell {
			p.farewell = 0
			return
		}
		p.window.acked(packet, at)
	})
}

// reportAcked reports acknowledged messages to the outbox and to all others that use PUBACKs.
func (p *publisher) reportAcked(acked []inFlight) {
	for _, f := range acked {
		now := time.Now()
		p.link.cfg.Outbox.Ack(f.id)
		p.link.topics.acked(f.topic, f.id, now)
		p.link.rate.acked(now)
		p.echo.acked(f.packet, now)
		p.acked++
	}
	if n := len(acked); n > 0 {
		p.link.update(func(s *Status) { s.Published += uint64(n) })
	}
}

// checkOverdue ends the connection if the oldest message has waited too long for its PUBACK:
// AWS IoT Core discards messages above its rate without a notice. It pings first: a broker
// that answers the ping has read the message.
func (p *publisher) checkOverdue() {
	if p.window.len() == 0 {
		return
	}
	oldest := p.window.messages[0]
	waited := time.Since(p.transport.answerableSince(oldest.sent))
	if waited >= ackTimeout/2 && p.pinger.pinged.Before(oldest.sent) {
		p.pinger.ping()
	}
	if waited < ackTimeout {
		return
	}
	p.link.rate.halve()
	read := p.transport.traffic().pong.Sub(oldest.sent) >= pingTimeout // so it answers a ping that was sent later
	if oldest.overAWSRate && read && p.link.rate.noteDropped(time.Now()) {
		p.link.cfg.Log.Warn("broker drops messages above its rate limit; keeping the limits of AWS IoT Core for a day",
			"endpoint", p.link.cfg.Endpoint, "messages_per_second", awsMessagesPerSecond, "bytes_per_second", awsBytesPerSecond)
	}
	p.transport.fail(errNoAck)
}

// drain sends messages and waits for acknowledgements until nothing is left, or for at most
// Config.Drain.
func (p *publisher) drain() {
	if b, ok := p.link.cfg.Outbox.(Batcher); ok {
		b.Flush()
	}
	p.transport.pubacks.await(1)
	end := time.Now().Add(p.link.cfg.Drain)
	for {
		more, wait := p.fill()
		left := time.Until(end)
		if left <= 0 || p.transport.over() || p.window.len() == 0 && p.next == nil && p.link.rate.wait(time.Now()) == 0 && !more {
			return
		}
		if !more {
			p.link.await(context.Background(), min(left, wait), p.transport.pubacks.ready.C(), p.transport.down)
		}
		p.acknowledge()
	}
}

// sendFarewell sends the last message and waits a short time for its PUBACK.
func (p *publisher) sendFarewell() {
	if p.link.cfg.Farewell == nil || p.transport.over() {
		return
	}
	m := p.link.cfg.Farewell()
	if bad := unsendable(m); bad != "" {
		p.link.cfg.Log.Warn("message can never be sent", "topic", m.Topic, "reason", bad)
		return
	}
	p.farewell = p.transport.ids.next()
	p.write(p.farewell, m)
	p.flush()
	for end := time.Now().Add(disconnectTimeout); p.farewell != 0 && !p.transport.over(); p.readPubacks() {
		if !p.link.await(context.Background(), time.Until(end), p.transport.pubacks.ready.C(), p.transport.down) {
			return
		}
	}
}
