// Package interop tests the link and the daemon with third-party programs: mosquitto,
// also behind HAProxy. If they are not installed, its tests are skipped with a message.
package interop
