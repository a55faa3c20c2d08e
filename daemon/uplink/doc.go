// Package uplink carries mail to an MQTT broker and brings its messages back.
//
// It speaks MQTT 3.1.1 (OASIS Standard, 29 October 2014) at QoS 1 over mutual
// TLS, 1.2 or later. A [Link] is one such connection, made again for ever: it
// connects, subscribes and awaits each SUBACK, then sends from its [Outbox]
// with a window of messages in flight, and hands what comes to a channel.
// When the connection ends it says why, waits a random while and starts over.
//
// Three rules make "delivered" mean delivered.
//
// Every connection has a protocol client of its own, and nothing is resumed
// inside it: a client that resumes may complete a publish that no PUBACK ever
// answered. What is not acknowledged is in the outbox and is sent again.
// Publishing goes past the client, for its cost (see publish.go).
//
// Nothing that comes from the broker is believed unseen. Each packet is read
// whole and checked before the protocol client gets it (see guard.go), so a
// broken or hostile peer ends a connection and never the program. Messages to us
// are bounded in size, number and bytes where they are read (see inbound.go).
//
// A wait is never for one thing only: it ends too when the connection does,
// when its time is up, and when the caller wants to stop.
//
// AWS IoT Core ends a connection without a reason for whatever its policy does
// not allow. So does a network that is bad. So the link remembers how connections
// ended and of what it had just sent (see evidence.go). What the broker hangs up
// on three times in a row, and in order, is left out (denied.go, topics.go);
// a reset is weak evidence, and any other end of a connection contradicts it. What
// is left out is said in [Status] and tried again: at once where the connection
// does not last without it either, else after a minute, two, four, up to an hour.
// The rest flows on. Only a message that the broker hangs up on again and again,
// while it takes others of the same topic, is set aside. [Explain] turns what was
// seen into what it means.
//
// A broker keeps a session's subscriptions over any change of ours. Those that may be
// left of before are given up on the first connection (stale.go), as far as is known.
//
// Not every close is an answer. A proxy or NAT that gives up connections on which
// nothing goes is told from another client with our client id by pinging more often
// (idle.go), and a CONNECT that is refused is tried without its will (will.go). Nor is
// every acknowledgement true: where it can, the link listens for a message of its
// own (echo.go).
//
// AWS IoT Core also discards, without a word, what exceeds its rates; so they are kept
// (see pace.go). Other brokers' rates are bounded once they have not acknowledged
// in time, and for good once they were seen to discard.
package uplink
