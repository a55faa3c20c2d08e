// Package broker is an MQTT broker that behaves like AWS IoT Core, for the
// demo, for rehearsals and for tests. It needs no account and no network, and
// speaks mutual TLS with certificates that [Certificates] makes under the
// names of the AWS tutorial. It is not for production: sessions and retained
// messages live in memory.
//
// What it has in common with AWS IoT Core, and not with most brokers, is how it
// says no: it closes the connection and gives no reason. Following the AWS IoT
// Core Developer Guide, "MQTT", and the quotas in package awsiot:
//
//   - A client without a certificate of our CA ends in the TLS handshake.
//   - Over MQTT 5 it does give one, for what the policy denies: code 135 in
//     CONNACK, PUBACK and SUBACK, and in a DISCONNECT for a PUBLISH of QoS 0.
//     Of a SUBSCRIBE with one denied filter nothing is granted.
//   - A CONNECT that the policy denies, or with a client id out of bounds, is
//     closed without a CONNACK; a denied PUBLISH or SUBSCRIBE without an ack.
//     A retained PUBLISH needs iot:RetainPublish as well.
//   - iot:Receive is asked for every delivery; what is denied is not delivered.
//   - A second CONNECT with the same client id closes the first connection. No
//     DISCONNECT is sent to it: MQTT 3.1.1 has none from the server (3.14).
//   - QoS 2 is never answered, neither a PUBLISH nor a SUBSCRIBE.
//   - Payloads over 128 KB, topics over 256 bytes or 7 slashes, more than 8
//     filters in a SUBSCRIBE or 50 in a connection close the connection.
//   - The keep-alive is held between 30 and 1200 s.
//   - A persistent session outlives its connection by an hour.
//
// With [Options].AckDenied it says no as mosquitto does instead: a denied PUBLISH is
// acknowledged and goes to nobody, a denied SUBSCRIBE is answered with 0x80.
//
// It differs in these: it does not slow anybody down (AWS discards publishes
// above 100 a second and takes one CONNECT a second from a client id), sends
// queued messages at once, and has no shadows, jobs or presence events. The
// thing of a connection is taken to be its client id. Whether AWS refuses a
// CONNECT for a will that the policy denies is not documented; here the
// connection is taken and the will dropped. A message that is published in the
// instant in which a client takes over its own session can be lost, because
// the server underneath copies the session before it switches over.
package broker
