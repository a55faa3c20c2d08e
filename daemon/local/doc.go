// Package local serves HTTP on a unix socket, for people and programs on the same machine.
//
// Package api has the routes, their types, and the OpenAPI document that describes them. The
// daemon serves that document at /openapi.json. So
//
//	curl --unix-socket /run/fieldpost/fieldpost.sock http://localhost/v1/status
//
// is a client, and [Do] is another. A failed request is answered with a status other than 200
// and an [api.ErrorAnswer], which says what to do. Only input that is not HTTP gets a short
// text from net/http.
//
// The mode of the socket, 0660, decides who may connect. The kernel says who did
// (SO_PEERCRED, unix(7)). That cannot be forged, and is recorded as the cause of an order.
//
// No client can block the daemon, and no user can block another. At most 8 connections of a
// user may wait for a request, 128 in all. For one more, the oldest of them is closed; it
// gets an answer that says so, unless it was idle after an earlier answer. At most 8 calls of
// a user may run at a time, 16 in all; further ones are refused. Orders have their own limit:
// if 16 of a user are running, the oldest is answered that it is still running, so a new
// order can always begin. The header of a request has at most 8 KiB and its body 64 KiB; a
// larger body is read to its end, so that its answer is not lost. A request must arrive
// within 5 seconds, its answer must be read within 5 seconds, and a connection may be idle
// for at most 5 seconds. If a call panics, its answer is an error.
//
// A server may listen on an address instead, only for /metrics. The callers are unknown there, so
// it changes nothing, each address has the share of a user, and a request must be for a
// name or an address that the configuration allows.
package local
