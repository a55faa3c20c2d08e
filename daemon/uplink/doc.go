// Package uplink publishes messages to an MQTT broker and receives messages from it.
//
// It uses MQTT 3.1.1 (OASIS Standard, 29 October 2014) at QoS 1 over mutual TLS, version 1.2
// or later. A [Link] makes one connection after the other: it connects, subscribes and waits
// for each SUBACK. Then it publishes from its [Outbox] with a window of messages in flight,
// and passes incoming messages to a channel. When the connection ends, the link reports the
// cause, waits for a random time and starts again.
//
// # Rules
//
// Three rules make "delivered" mean delivered.
//
// Every connection has a protocol client of its own, and nothing is resumed inside it: a
// client that resumes may complete a publish that no PUBACK has answered. Everything that is
// not acknowledged is in the outbox and is sent again. Publishing and subscribing bypass the
// client, which handles only CONNECT, the keep-alive and DISCONNECT.
//
// Nothing from the broker is trusted unchecked. Each packet is read completely and checked
// before the protocol client gets it, so a broken or hostile peer can end a connection but
// never the program. Incoming messages are limited in size, number and bytes when they are
// read.
//
// No wait is for one event only. It also ends when the connection does, when its time is up,
// and when the caller wants to stop.
//
// # The way of a message
//
// Out: an [Outbox] (outbox.go) returns a [Publication]. The publisher (publish.go) sends it
// within the rate (ratelimit.go) and the window (inflight.go), as a packet (packet.go) over
// the transport (transport.go). The PUBACK comes back through transport.go to inflight.go,
// and publish.go reports it to the outbox.
//
// In: the packetReader (packet.go) reads a PUBLISH, the receiver (inbound.go) queues it for
// [Link.Messages], and the PUBACK is sent when the message's Ack is called.
//
// # The life of a link
//
// link.go makes one connection after the other and waits between them (backoff.go,
// network.go, reconnect.go). Each begins with TLS and CONNECT (connect.go, will.go,
// session.go; rotation.go and trial.go for the credentials), subscribes (subscribe.go) and is
// kept open (connection.go, keepalive.go) until it ends. If possible, another configuration
// takes effect on the open connection (reconfigure.go).
//
// # Why a connection ended
//
// AWS IoT Core closes the connection without a reason for anything that its policy does not
// allow. A bad network looks the same. So the link records how connections ended and what it
// had just requested (diagnose.go). A request on which the broker hangs up three times in a
// row, in order, is denied and left out (denial.go). A reset is weak evidence, and any other
// end of a connection contradicts it. [Status] names what is left out. It is tried again:
// immediately if the connection does not last without it either, otherwise after a minute,
// two, four, up to an hour. Everything else is sent and received meanwhile. A message is set
// aside only if the broker hangs up on it again and again while it accepts others of the same
// topic. [Explain] turns an error into its meaning and what to do (explain.go).
//
// Not every close is an answer. Pinging more often distinguishes an idle timeout in the
// network (keepalive.go) from another client with our client id (takeover.go). A CONNECT that
// is refused is tried without its will (will.go). Nor does every acknowledgement mean
// delivery: where possible, the link listens for a message of its own (echo.go).
//
// A broker keeps a session's subscriptions when our configuration changes. The link
// unsubscribes from those of earlier configurations as far as it knows them
// (subscription_log.go).
//
// AWS IoT Core also discards messages above its rates without a notice, so the link stays
// below them. For other brokers it limits the rate once they have not acknowledged in time,
// and permanently once they have been seen to discard.
package uplink
