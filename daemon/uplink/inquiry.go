package uplink

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/health"
)

const (
	askAfter  = 2                // hang-ups on the same request, in a row
	askAgain  = time.Hour        // for the same request
	muteFor   = 24 * time.Hour   // for any, of a broker that seems not to speak MQTT 5
	askPause  = time.Minute      // between two questions
	askLimit  = 20 * time.Second // for a question and its answer
	askedMost = 16               // requests whose answers are kept
)

// Question is a request on which a broker keeps closing the connection without a reason, as
// AWS IoT Core does over MQTT 3.1.1.
type Question struct {
	Probe ProbeConfig  // how to connect, with a client id that is not ours
	Phase Phase        // Connecting, Subscribing or Publishing
	Sub   Subscription // in Subscribing
	Pub   Publication  // in Publishing, with a message that cannot be taken for one of ours
}

// Answer is the result of a [Question]. The zero Answer means that nothing was found out.
type Answer struct {
	Accepted    bool    // the broker accepted the request
	Reason      *Reason // the broker's reason if it did not
	Unsupported bool    // the broker does not support MQTT 5
}

// Asker asks a broker over MQTT 5, which has reason codes. It returns soon after ctx ends.
type Asker func(ctx context.Context, q Question) Answer

// request is the subject of a question.
type request struct {
	phase   Phase
	subject string // the filter or the topic
}

// answered is an answer and the client id with which it was obtained.
type answered struct {
	Answer
	as string
	at time.Time
}

// inquiry asks the broker for its reason, once, after hang-ups that nothing explains. The
// question uses MQTT 5 on a connection of its own while no other is open, and another client
// id: ours may be in use by somebody who would be disconnected, and the broker would send the
// session's messages to the question. Only Run's goroutine uses it.
type inquiry struct {
	last    request // the request on which the last connection ended
	hangUps int     // hang-ups on that request, in a row
	asked   time.Time
	mute    time.Time // when the broker last seemed not to speak MQTT 5; it may only have been ending
	answers map[request]answered
}

// hungUp counts a hang-up and reports whether it is time to ask.
func (i *inquiry) hungUp(r request, now time.Time) bool {
	if r != i.last {
		i.last, i.hangUps = r, 0
	}
	i.hangUps++
	switch before, known := i.answers[r]; {
	case i.hangUps < askAfter, !i.mute.IsZero() && now.Sub(i.mute) < muteFor:
		return false
	case known && now.Sub(before.at) < askAgain:
		return false
	}
	return i.asked.IsZero() || now.Sub(i.asked) >= askPause
}

// endedOtherwise resets the count of hang-ups.
func (i *inquiry) endedOtherwise() { i.last, i.hangUps = request{}, 0 }

// learn stores an answer.
func (i *inquiry) learn(r request, a answered) {
	if i.mute = (time.Time{}); a.Unsupported {
		i.mute = a.at
	}
	if i.answers == nil || len(i.answers) >= askedMost {
		i.answers = map[request]answered{}
	}
	i.answers[r] = a
}

// quote returns what the broker has said about a request, to be appended to a sentence.
// Without an answer it says that the sentence is a conclusion. It returns "" if the link does
// not ask.
func (l *Link) quote(phase Phase, subject string) string {
	if l.cfg.Ask == nil {
		return ""
	}
	i := &l.inquiry
	a, known := i.answers[request{phase, subject}]
	asked := fmt.Sprintf("asked over MQTT 5 as %q", a.as)
	switch {
	case known && a.Reason != nil && a.Reason.Packet == "CONNACK" && phase != Connecting:
		return fmt.Sprintf(" (inferred, as it gives no reason; it does not let us ask over MQTT 5 as %q: %v)", a.as, a.Reason)
	case known && a.Reason != nil:
		return fmt.Sprintf(" (%s, it says %v)", asked, a.Reason)
	case known && a.Accepted:
		return fmt.Sprintf(" (inferred, as it gives no reason; %s, it accepts the same)", asked)
	}
	return " (inferred, as it gives no reason)"
}

// requestRefused returns the request on which a connection ended, if that may be a refusal
// that nothing explains.
func (c *connection) requestRefused(why *Explained) (r request, ok bool) {
	if !Inferred(why) || why.Code == string(health.DuplicateClient) || c.probingEcho {
		return request{}, false
	}
	switch phase := c.exchange.phase; phase {
	case Connecting:
		return request{phase: phase}, true
	case Subscribing:
		return request{phase, c.exchange.subject}, true
	case Publishing:
		topic := ""
		for _, m := range c.publisher.window.messages {
			if topic != "" && m.topic != topic {
				return request{}, false // messages will soon be sent one at a time
			}
			topic = m.topic
		}
		return request{phase, topic}, topic != ""
	}
	return request{}, false
}

// inquire asks the broker why it closed a connection, if it is time to, and completes why.
func (l *Link) inquire(ctx context.Context, c *connection, why *Explained) {
	r, ok := c.requestRefused(why)
	if !ok {
		l.inquiry.endedOtherwise()
		return
	}
	if l.inquiry.hungUp(r, time.Now()) && l.cfg.Ask != nil && c.creds != nil {
		c.ask(ctx, r)
	}
	if needsPerson(why.Code) || l.inquiry.answers[r].Reason != nil {
		why.What += l.quote(r.phase, r.subject)
	}
}

// ask asks about a request and waits for the answer. It calls Config.Heartbeat meanwhile.
func (c *connection) ask(ended context.Context, r request) {
	l, q := c.link, c.question(r)
	ctx, cancel := context.WithTimeout(ended, askLimit)
	defer cancel()
	got, done := Answer{}, make(chan struct{})
	asking := l.cfg.Ask
	l.others.Go("question to the broker", func() {
		defer close(done)
		got = asking(ctx, q)
	})
	for !l.await(context.Background(), askLimit, done, nil) {
		cancel() // the question then ends soon
	}
	l.inquiry.asked = time.Now()
	if ended.Err() != nil {
		return // interrupted: the result says nothing
	}
	l.inquiry.learn(r, answered{got, q.Probe.ClientID, time.Now()})
	if got.Reason != nil {
		l.cfg.Log.Warn("the broker gave its reason over MQTT 5", "reason", got.Reason.Error(), "client_id", q.Probe.ClientID, "topic", r.subject)
	}
}

// question makes the question about a request.
func (c *connection) question(r request) Question {
	l := c.link
	q := Question{Phase: r.phase, Probe: ProbeConfig{
		Endpoint: l.cfg.Endpoint, ClientID: askID(l.cfg.ClientID), KeepAlive: l.cfg.KeepAlive, Clean: true, Access: l.cfg.Access, Dial: l.cfg.Dial, creds: c.creds,
	}}
	switch r.phase {
	case Connecting:
		if c.withWill { // the will may be what is refused
			q.Probe.Will = &Publication{Topic: l.cfg.Will.Topic, Payload: []byte(probePayload)}
		}
	case Subscribing:
		q.Sub = Subscription{Filter: r.subject, QoS: 1}
	case Publishing:
		size := 0
		for _, m := range c.publisher.window.messages {
			size = max(size, m.size)
		}
		q.Pub = Publication{Topic: r.subject, Payload: padded(probePayload, size)}
	}
	return q
}

// probePayload has a "kind", so that it is not taken for an order or a reading.
const probePayload = `{"kind":"probe"}`

// padded makes a JSON text as long as the refused message, which may have been refused for
// its size.
func padded(text string, size int) []byte {
	b := []byte(text)
	for len(b) < size {
		b = append(b, ' ')
	}
	return b
}

// askID returns the client id of a question. It begins with ours and continues like those of
// `fieldpost send --via mqtt`, so policies for that allow it. It has at most 128 bytes, the
// limit of AWS IoT Core.
func askID(own string) string {
	const most = 128
	tail := make([]byte, 2)
	rand.Read(tail) // never fails
	end := "-send-" + hex.EncodeToString(tail)
	cut := min(len(own), most-len(end))
	for cut > 0 && cut < len(own) && !utf8.RuneStart(own[cut]) {
		cut--
	}
	return own[:cut] + end
}
