// Package client is what the commands do that are not the daemon: they ask the
// daemon of this machine through its socket, or the broker on a link of their
// own, and print what comes back for people.
package client
