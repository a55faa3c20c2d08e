// Package broker is an MQTT broker that behaves like AWS IoT Core, for the demo, for trials and
// for tests. It needs no account and no network. It uses mutual TLS with certificates that
// [Certificates] creates with the file names of the AWS tutorial. It is not for production:
// sessions and retained messages are in memory only.
//
// Like AWS IoT Core, and unlike most brokers, it closes the connection without a reason when it
// denies something. It follows the AWS IoT Core Developer Guide, "MQTT", and the quotas in
// package awsiot:
//
//   - A client without a certificate of our CA fails in the TLS handshake.
//   - Over MQTT 5 it does give a reason for what the policy denies: code 135 in CONNACK, PUBACK
//     and SUBACK, and in a DISCONNECT for a PUBLISH of QoS 0. A SUBSCRIBE with one denied filter
//     is denied as a whole.
//   - A CONNECT that the policy denies, or with an invalid client id, gets no CONNACK; a denied
//     PUBLISH or SUBSCRIBE gets no acknowledgement. The connection is closed. A retained PUBLISH
//     needs iot:RetainPublish as well.
//   - Every delivery needs iot:Receive; a denied message is not delivered.
//   - A second CONNECT with the same client id closes the first connection. No
//     DISCONNECT is sent to it: MQTT 3.1.1 has none from the server (3.14).
//   - QoS 2 is never answered, neither a PUBLISH nor a SUBSCRIBE.
//   - Payloads over 128 KB, topics over 256 bytes or 7 slashes, more than 8 filters in a
//     SUBSCRIBE or 50 in a connection close the connection. Over MQTT 5 they are answered with
//     codes 144, 143 and 151, and a payload with a DISCONNECT with 149.
//   - The keep-alive is limited to 30 to 1200 s.
//   - A persistent session outlives its connection by an hour ([Options].SessionExpiry), over
//     MQTT 5 by what the CONNECT asks for and no more than that.
//   - A message that was published over MQTT 5 with an expiry vanishes from sessions, also those
//     of MQTT 3.1.1, and from the retained messages.
//   - A retained message is sent for a filter that is its topic, and for none with wildcards.
//     a/# does not match a.
//
// With [Options].Devices, certificates have policies and things of their own, as in the
// registry of AWS IoT Core.
//
// With [Options].Rates it discards what a connection publishes or is sent above 100 messages a
// second, without an acknowledgement; it delays more than 512 KiB a second each way; it sends
// what a session has kept at 10 messages a second, and no message to a client that has 100 to
// acknowledge; and it refuses a CONNECT within a second of the last one of the client id, over
// MQTT 5 with code 151.
//
// With [Options].AckDenied it denies like mosquitto instead: a denied PUBLISH is acknowledged and
// discarded, a denied SUBSCRIBE is answered with 0x80.
//
// With [Options].Provisioning it provisions devices by claim: see [Provisioning]. What it has
// issued it knows until its end; after a restart it accepts each certificate of its CA.
//
// [Missing] lists what it does not do. It is not documented whether AWS refuses a CONNECT for a
// will that the policy denies; here the connection is accepted and the will dropped. A message
// that is published at the instant in which a client takes over its own session can be lost,
// because the server library copies the session before it switches over.
package broker

// Missing lists what AWS IoT Core does and this broker does not.
var Missing = []string{
	"have shadows, jobs, rules, presence events or other services behind $aws topics, but for provisioning (--template)",
	"insist on a server name (SNI) in the TLS handshake",
	"let certificates of another CA in",
	"have topic aliases of MQTT 5, nor an expiry of wills",
	"limit what an account may do in all: connections, retained messages, requests a second",
	"take minutes until a changed policy acts: policies are read at its start only",
	"keep anything over a restart",
}
