// Package mqtt5 speaks MQTT 5 over one connection, for what MQTT 3.1.1 cannot do: a broker's
// answers have reason codes there, and a message may expire. The daemon's own link stays with
// MQTT 3.1.1; see package uplink. Doctor, the daemon's probe and `fieldpost send` use this.
//
// AWS IoT Core answers a denied CONNECT, PUBLISH or SUBSCRIBE over MQTT 5 with a reason code,
// where over 3.1.1 it only closes the connection (AWS IoT Core Developer Guide, "MQTT",
// section "MQTT reason codes").
//
// The packets are encoded and decoded by github.com/eclipse/paho.golang/packets, which is some
// 190 KiB of the program. Sections are those of the OASIS Standard "MQTT Version 5.0" of 7
// March 2019.
package mqtt5
