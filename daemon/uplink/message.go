package uplink

import "time"

// Publication is one message to be published, at QoS 1.
type Publication struct {
	ID      uint64 // the outbox's name for it, the same after each Rewind
	Topic   string
	Payload []byte
}

// Outbox is where the uplink takes its mail from. The uplink calls it from
// one goroutine at a time; the outbox's owner may fill it from others.
type Outbox interface {
	// Rewind makes every mail that is not acknowledged unsent again. It is
	// called at the start of each connection.
	Rewind()
	// Next gives the next unsent mail, the most urgent first; ok is false when
	// there is none now.
	Next() (m Publication, ok bool)
	// Ready is signalled (buffered, capacity one) when Next may have more.
	Ready() <-chan struct{}
	// Hold is told of a mail that is not sent before the next Rewind, because its
	// topic is denied. So however much of it there is, nothing need be remembered
	// of it until then.
	Hold(id uint64)
	// Ack forgets a mail for which the broker's PUBACK has come.
	Ack(id uint64)
	// Refuse sets a mail aside that can never be sent, and reports it. Where a
	// mail is several in one, it may come again in parts after a rewind instead.
	Refuse(id uint64, reason string)
}

// Batcher is an [Outbox] that lets messages wait for more to go with them. The
// uplink wakes when that has waited long enough.
type Batcher interface {
	Outbox
	// Due says when Next will give mail that waits now, though nothing comes to
	// go with it; the zero time when none waits.
	Due() time.Time
	// Flush ends all waiting until the next Rewind. It is called at an orderly
	// end.
	Flush()
}

// Subscription is a topic filter to be subscribed to on every connection.
type Subscription struct {
	Filter string
	QoS    byte // 0 or 1
}

// Message is a message from the broker. It is acknowledged to the broker only
// by Ack, whatever its QoS; see MQTT 3.1.1, section 4.3.2.
type Message struct {
	Topic   string
	Payload []byte // belongs to the receiver
	// Size is the payload's size in bytes as the broker sent it. Where that is over
	// Config.MaxPayload, Payload is only its first KiB: the rest was read past, and the
	// message has been acknowledged. It counts as dropped.
	Size     int
	QoS      byte // 0 too for one of which only the beginning is here
	Retained bool
	// Ack sends the PUBACK; on a connection that has ended it does nothing.
	// Any goroutine, any number of times.
	Ack func()
	// Lost reports whether the connection it came on has ended: the broker
	// will send it again, so a receiver that has not begun to act drops it. At
	// QoS 0 it is always false, as nothing is sent again.
	Lost func() bool
}

// Truncated reports whether only the payload's beginning is here; see Size.
func (m Message) Truncated() bool { return m.Size > len(m.Payload) }

// Status is the state of the link, for people and for the safety of pins.
type Status struct {
	Connected bool
	Endpoint  string
	ClientID  string
	Attempts  int // connection attempts since the last success
	// Next is when the next attempt is, while none is under way.
	Next time.Time
	// Err says why it is not connected, as an [*Explained]. While it is
	// connected, Err says what is amiss all the same (a topic that may not be
	// published to, a new certificate that does not work), or is nil.
	Err error
	// Denied are the subscriptions left out of this connection, because the
	// broker does not allow them.
	Denied []string
	// SessionPresent is the broker's word in the last CONNACK.
	SessionPresent bool
	// Undelivered is the topic of a message of ours that the broker has acknowledged
	// and not delivered to us, though we listened; "" where there is none. See [Echo].
	Undelivered string
	// Ping is how often a ping goes because connections are given up on which
	// nothing has been sent for Idle; both are 0 where they are not.
	PingEvery, IdleTimeout time.Duration
	// Published counts the messages for which a PUBACK has come since the start.
	// A batch of readings is one.
	Published uint64
	// Dropped counts the messages from the broker that were lost since the
	// start: at QoS 0 because too many waited, at any QoS because of their size. Of those
	// the beginning was received.
	Dropped uint64
	// SessionsLost counts how often the link came to stand again and the broker had
	// forgotten our session, and with it the orders it may have kept for us. What a
	// broker says that has never said that it has a session counts once it has.
	SessionsLost uint64
}

// Explained is an error of the link with what it means and what to do.
type Explained struct {
	Code string // a fault's code, as in package health: "certificate_rejected"
	What string // one sentence: what the broker or the network did
	Hint string // one sentence: what to change
	Err  error  // what was seen
}

// Error gives what happened, and what was seen.
func (e *Explained) Error() string {
	if e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap gives what was seen.
func (e *Explained) Unwrap() error { return e.Err }
