// Package api describes what a running daemon can be asked and what it answers:
// the types that the local socket, the command line and the page share. Each is
// described here once, with the JSON it becomes.
//
// Keys may be added; none changes its meaning or goes. Times are RFC 3339 in UTC,
// to the millisecond; a key that ends in _s is in seconds. The package holds types
// only: the daemon fills them in, package client asks for them and prints them.
package api
