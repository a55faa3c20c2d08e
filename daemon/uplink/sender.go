package uplink

import (
	"context"
	"slices"
	"time"
)

// So much is looked at before the loop turns again.
const (
	fillAtOnce = 64        // messages
	fillBytes  = 512 << 10 // in them
)

// flow sends from the outbox until the connection or ctx ends, or somebody wants
// another connection.
func (s *session) flow(ctx context.Context) {
	next := time.NewTimer(turnEvery)
	defer next.Stop()
	looked := time.Now()
	s.hearing.again = looked
	s.rewind()
	for !s.conn.over() {
		s.l.cfg.Heartbeat()
		more, wait := false, turnEvery
		if !s.listening() && !s.retrying(ctx) && !s.attending(ctx) {
			more, wait = s.fill()
		}
		if more && ctx.Err() == nil {
			continue
		}
		next.Reset(min(wait, s.untilPing()))
		select {
		case <-ctx.Done():
			return
		case <-s.conn.down:
		case <-s.l.asked.hurry:
			s.again = true
			return
		case <-s.conn.acks.ready:
			s.reap()
		case <-s.l.cfg.Outbox.Ready():
		case <-next.C:
		}
		if now := time.Now(); now.Sub(looked) >= turnEvery {
			looked = now
			s.look(now)
			if err := s.echoed(ctx, now); err != nil {
				s.conn.fail(err)
			}
		}
	}
}

// attending begins to listen for an echo where that is due. It waits for the window
// to empty, and reports whether nothing is to be sent meanwhile.
func (s *session) attending(ctx context.Context) bool {
	if a := s.hearing.again; a.IsZero() || time.Now().Before(a) {
		return false
	}
	if len(s.window) > 0 {
		return true
	}
	if err := s.attend(ctx); err != nil {
		s.conn.fail(err)
		return true
	}
	return ctx.Err() != nil
}

// listening reports whether nothing is to be sent yet. When publishing was denied
// and nothing had been acknowledged, it may have been another client with our
// client id that ended those connections. Then a close comes now too, and is about
// nothing that we sent.
func (s *session) listening() bool {
	s.l.listen = s.l.listen && time.Since(s.up) < soon
	return s.l.listen
}

// look does what is due now and then.
func (s *session) look(now time.Time) {
	s.overdue()
	s.unanswered()
	s.recall()
	s.l.calm(s.up)
	s.l.look(now)
	if s.l.dropped.Load() != s.l.toldDropped {
		s.l.update(func(*Status) {})
	}
}

// rewind has the outbox give again all that is not acknowledged.
func (s *session) rewind() {
	s.head = nil
	s.l.cfg.Outbox.Rewind()
}

// fill sends, in few writes, until the window is full or the outbox has nothing
// for now. It reports whether it stopped only to let the loop turn, or else how
// long there will be nothing to do unless something happens.
func (s *session) fill() (more bool, wait time.Duration) {
	defer s.flush()
	box, topics := s.l.cfg.Outbox, &s.l.topics
	seen := 0
	for n := 0; n < fillAtOnce && seen < fillBytes; n++ {
		if len(s.window) >= s.room() || s.conn.over() {
			return false, turnEvery
		}
		now := time.Now()
		if s.underWay() >= s.transit.most(now) {
			return false, turnEvery
		}
		if d := s.l.pace.wait(now); d > 0 {
			return false, min(d, turnEvery)
		}
		m, ok := s.take()
		if !ok {
			return false, s.patience()
		}
		seen += len(m.Payload)
		if bad := unsendable(m); bad != "" {
			s.l.cfg.Log.Warn("message can never be sent", "topic", m.Topic, "reason", bad)
			box.Refuse(m.ID, bad)
			continue
		}
		trial := topics.trial(m.Topic, m.ID)
		if topics.held(m.Topic) && !trial {
			box.Hold(m.ID) // it comes again after a rewind
			continue
		}
		if trial && len(s.window) > 0 {
			s.head = &m // a hang-up must be about nothing else
			return false, turnEvery
		}
		if d := s.l.pace.alone(m, time.Now()); d > 0 {
			s.head = &m
			return false, min(d, turnEvery)
		}
		s.trial = trial
		s.publish(m)
	}
	return true, 0
}

// room gives how many messages may be in flight.
func (s *session) room() int {
	if s.trial {
		return 1
	}
	return s.l.topics.window(s.l.cfg.Window)
}

// take gives the next message: the one that had to wait, or the outbox's.
func (s *session) take() (Publication, bool) {
	if m := s.head; m != nil {
		s.head = nil
		return *m, true
	}
	return s.l.cfg.Outbox.Next()
}

// patience says how long the outbox will give nothing of itself.
func (s *session) patience() time.Duration {
	if p, ok := s.l.cfg.Outbox.(Batcher); ok {
		if due := p.Due(); !due.IsZero() {
			return min(turnEvery, max(0, time.Until(due)))
		}
	}
	return turnEvery
}

// publish sends one message.
func (s *session) publish(m Publication) {
	now := time.Now()
	s.sent, s.asked = true, now
	s.l.pace.spend(m, now)
	f := flight{id: m.ID, packet: s.identifier(), topic: m.Topic, size: packetSize(m), sent: now, fast: s.second.add(m, now)}
	s.window = append(s.window, f)
	s.phase = Publishing
	s.hearing.sends(m, f.packet)
	s.put(f.packet, m)
}

// reap acknowledges to the outbox, in order, what the broker has acknowledged.
func (s *session) reap() {
	s.mark()
	n := 0
	for _, f := range s.window {
		if !f.taken {
			break
		}
		s.ack(f)
		n++
	}
	s.window = slices.Delete(s.window, 0, n)
	if len(s.window) == 0 {
		s.phase, s.trial = Idle, false
	}
	s.count(n)
}

// collect takes the acknowledgements that came before the connection ended,
// in whatever order.
func (s *session) collect() {
	s.mark()
	n := 0
	var left []flight
	for _, f := range s.window {
		if f.taken {
			s.ack(f)
			n++
		} else {
			left = append(left, f)
		}
	}
	s.window = left
	if s.phase == Publishing && len(left) == 0 {
		s.phase = Idle
	}
	s.count(n)
}

func (s *session) ack(f flight) {
	s.l.cfg.Outbox.Ack(f.id)
	s.l.topics.acked(f.topic, f.id, time.Now())
	s.l.pace.acked(time.Now())
	s.hearing.acks(f.packet, time.Now())
	s.acked++
}

func (s *session) count(n int) {
	if n > 0 {
		s.l.update(func(st *Status) { st.Published += uint64(n) })
	}
}

// overdue ends the connection when the oldest message has waited too long for
// its PUBACK: AWS IoT Core discards what exceeds its rate without a word. Before
// that it pings: a broker that answers has read the message.
func (s *session) overdue() {
	if len(s.window) == 0 {
		return
	}
	oldest := s.window[0]
	waited := time.Since(s.conn.since(oldest.sent))
	if waited >= ackTimeout/2 && s.pinged.Before(oldest.sent) {
		s.ping()
	}
	if waited < ackTimeout {
		return
	}
	s.l.pace.halve()
	read := s.conn.traffic().pong.Sub(oldest.sent) >= pingTimeout // so it is to a ping that was sent later
	if oldest.fast && read && s.l.pace.excess() {
		s.l.cfg.Log.Warn("broker drops what exceeds its rate; AWS IoT Core's limits are kept from now on",
			"endpoint", s.l.cfg.Endpoint, "messages_per_second", awsMessages, "bytes_per_second", awsBytes)
	}
	s.conn.fail(errNoAck)
}

// ping sends a PINGREQ beside those of the protocol client (MQTT 3.1.1, section
// 3.1.2.10: at any time, whatever the keep-alive), which takes the answer.
func (s *session) ping() {
	if !s.conn.traffic().heard.Before(s.pinged) { // else the one before is not answered yet
		s.pinged = time.Now()
	}
	if _, err := s.conn.Write([]byte{pingreq << 4, 0}); err != nil {
		s.conn.fail(err)
	}
}

// retrying tries again what was denied. It waits for the window to
// empty, so that a hang-up says clearly what it is about, and reports whether
// nothing is to be sent meanwhile.
func (s *session) retrying(ctx context.Context) bool {
	l, now := s.l, time.Now()
	filters, topics := l.filters.bans.due(now), l.topics.due(now)
	if !filters && !topics {
		return false
	}
	if len(s.window) > 0 {
		return true
	}
	if filters {
		if err := s.subscribe(ctx, l.filters.wanted(l.cfg.Subscriptions, now, true)); err != nil {
			s.conn.fail(err)
			return true
		}
	}
	if topics {
		l.topics.release(now)
		s.rewind()
	}
	l.update(func(st *Status) { st.Err, st.Denied = l.amiss(), l.filters.bans.names() })
	return false
}

// leave ends the connection in order: what is in the outbox is sent and
// acknowledged while there is time, then the farewell, then DISCONNECT, so
// that the broker does not publish our will.
func (s *session) leave() {
	if !s.up.IsZero() {
		s.unlisten()
		s.drain()
		s.farewell()
	}
	s.client.Disconnect(uint(goodbyeWait.Milliseconds()))
	s.conn.fail(errEnded)
	s.collect()
	s.l.cfg.Log.Info("link ended", "endpoint", s.l.cfg.Endpoint, "unacknowledged", len(s.window))
}

// drain sends and awaits acknowledgements until nothing is left or the time
// for it is over.
func (s *session) drain() {
	if p, ok := s.l.cfg.Outbox.(Batcher); ok {
		p.Flush()
	}
	end := time.Now().Add(s.l.cfg.Drain)
	for {
		more, wait := s.fill()
		left := time.Until(end)
		if left <= 0 || s.conn.over() || len(s.window) == 0 && s.head == nil && s.l.pace.wait(time.Now()) == 0 && !more {
			return
		}
		if !more {
			s.l.await(context.Background(), min(left, wait), s.conn.acks.ready, s.conn.down)
		}
		s.reap()
	}
}

func (s *session) farewell() {
	if s.l.cfg.Farewell == nil || s.conn.over() {
		return
	}
	m := s.l.cfg.Farewell()
	if bad := unsendable(m); bad != "" {
		s.l.cfg.Log.Warn("message can never be sent", "topic", m.Topic, "reason", bad)
		return
	}
	s.parting = s.identifier()
	s.put(s.parting, m)
	s.flush()
	for end := time.Now().Add(goodbyeWait); s.parting != 0 && !s.conn.over(); s.mark() {
		if !s.l.await(context.Background(), time.Until(end), s.conn.acks.ready, s.conn.down) {
			return
		}
	}
}
