// Package daemontest runs a whole daemon in a test: on a simulated board, with
// real TLS on loopback, against the embedded broker or against mosquitto. Only
// tests import it; daemon/deps_test.go sees to that.
//
// A [Site] is one board and one broker. [Site.Config] writes and loads a
// configuration for it, [Site.Start] runs a daemon on it, [Site.Listen] and
// [Site.Publisher] are other clients of the broker. [StartMosquitto] and
// [Mosquitto.BehindHAProxy] run programs that are installed on this machine.
//
// Functions that take a testing.TB fail the test themselves and must be called
// from the test's goroutine. Everything that was started ends with the test.
package daemontest
