// Package uplink publishes messages to an MQTT broker and receives the broker's
// messages.
//
// It speaks MQTT 3.1.1 (OASIS Standard, 29 October 2014) at QoS 1 over mutual TLS, 1.2
// or later. A [Link] is one such connection, made again forever: it connects,
// subscribes and awaits each SUBACK, then publishes from its [Outbox] with a window of
// messages in flight, and hands what comes to a channel. When the connection ends the
// link says why, waits a random while and starts over.
//
// # Rules
//
// Three rules make "delivered" mean delivered.
//
// Every connection has a protocol client of its own, and nothing is resumed inside it:
// a client that resumes may complete a publish that no PUBACK ever answered. What is
// not acknowledged is in the outbox and is sent again. Publishing and subscribing go
// past the client; it keeps CONNECT, the keep-alive and DISCONNECT.
//
// Nothing that comes from the broker is trusted unread. Each packet is read whole and
// checked before the protocol client gets it, so a broken or hostile peer ends a
// connection and never the program. Messages to us are bounded in size, number and
// bytes where they are read.
//
// A wait is never for one thing only: it ends too when the connection does, when its
// time is up, and when the caller wants to stop.
//
// # The way of a message
//
// Out: an [Outbox] (outbox.go) gives a [Publication]; the publisher (publish.go) sends
// it within the rate (ratelimit.go) and the window (inflight.go), as a packet
// (packet.go) over the transport (transport.go). The PUBACK comes back through
// transport.go to inflight.go, and publish.go tells the outbox.
//
// In: the packetReader (packet.go) reads a PUBLISH, the receiver (inbound.go) queues it
// for [Link.Messages], and the PUBACK goes when the message's Ack is called.
//
// # The life of a link
//
// link.go makes one connection after the other and waits between them (backoff.go,
// network.go, reconnect.go). Each begins with TLS and CONNECT (connect.go, will.go, session.go,
// rotation.go and trial.go for the credentials), subscribes (subscribe.go) and is kept
// (connection.go, keepalive.go) until it ends. Another configuration takes effect on
// the connection that stands where it can (reconfigure.go).
//
// # Why a connection ended
//
// AWS IoT Core ends a connection without a reason for whatever its policy does not
// allow. So does a network that is bad. So the link remembers how connections ended
// and what it had just asked for (diagnose.go). What the broker hangs up on three times
// in a row, and in order, is denied and left out (denial.go); a reset is weak evidence,
// and any other end of a connection contradicts it. What is left out is said in
// [Status] and tried again: at once where the connection does not last without it
// either, else after a minute, two, four, up to an hour. The rest is sent and received
// meanwhile. Only a message that the broker hangs up on again and again, while it takes
// others of the same topic, is set aside. [Explain] turns what was seen into what it
// means and what to do (explain.go).
//
// Not every close is an answer. An idle timeout on the way to the broker
// (keepalive.go) is told from another client with our client id (takeover.go) by
// pinging more often, and a CONNECT that is refused is tried without its will
// (will.go). Nor does every acknowledgement mean delivery: where it can, the link
// listens for a message of its own (echo.go).
//
// A broker keeps a session's subscriptions over any change of our configuration. Those
// of earlier configurations are unsubscribed from as far as they are known
// (subscription_log.go).
//
// AWS IoT Core also discards, without a word, what exceeds its rates; so its rates are
// kept. Other brokers' rates are bounded once they have not acknowledged in time, and
// for good once they were seen to discard.
package uplink
