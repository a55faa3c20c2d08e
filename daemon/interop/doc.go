// Package interop tests the link and the daemon against programs that we did
// not write: mosquitto, and HAProxy before it. Where they are not installed its
// tests are skipped, and say so.
package interop
