// Package client implements the commands that talk to a daemon or a broker. They
// call the daemon of this machine over its socket, or connect to the broker
// themselves, and print the result for people.
package client
