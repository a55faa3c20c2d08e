// Package api describes the requests to a running daemon and its answers: the types that
// the local socket and the command line share. Each is described here once, with its
// JSON.
//
// Keys may be added; none is removed or changes its meaning. Times are RFC 3339 in UTC,
// to the millisecond; a key that ends in _s is in seconds. The package holds types only:
// the daemon fills them in, package client asks for them and prints them.
package api
