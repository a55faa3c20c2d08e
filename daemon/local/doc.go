// Package local is the daemon's door for people and programs on the same
// machine: a unix socket, and the protocol spoken on it.
//
// A connection carries one request and its answer, each a JSON object on a
// line of its own:
//
//	{"v":1,"call":"read","with":{"sensor":"air"}}
//	{"v":1,"result":{"sensor":"air","values":{"temperature":21.5}}}
//	{"v":1,"error":{"code":"unknown_sensor","text":"...","hint":"..."}}
//
// v is the version of this protocol; a daemon refuses one that it does not
// speak and names its own. call says what is wanted, and with is what the call
// takes; a call that takes nothing goes without. A request is at most 64 KiB,
// and a key that is unknown or stands twice refuses it. An answer has either
// result or error, and a client passes over keys it does not know. So
//
//	echo '{"v":1,"call":"status"}' | socat - UNIX-CONNECT:/run/fieldpost/fieldpost.sock
//
// is a client.
//
// The calls of the daemon; package api has the types that they take and give, and
// says what each key means:
//
//	call       with                                      result
//	status     nothing                                   Status
//	order      an order, as it comes by MQTT             OrderAnswer
//	read       {"sensor":"air"}, and "thing" if wanted   Reading
//	reconnect  nothing, or {"thing":"..."}               ReconnectAnswer, once the attempt has ended
//
// A thing that is named and is not the daemon's own is answered with the error
// not_ours.
//
// Who may connect is the business of the socket's mode, 0660. Who did is known
// from the kernel (SO_PEERCRED, unix(7)): it cannot be forged, and it is
// recorded as the cause of what was ordered.
//
// Nobody can hold the daemon up from here, and no user another. Of a user's
// connections 8 may wait for their request, 128 of all; one more, and the oldest of
// those is told so and closed. Of a user's calls 8 may be under way, 16 of all, and
// more are turned away. Orders have places of their own: when a user's 16 are taken,
// the oldest is answered that it is still under way, so that a new one always begins.
// A request over the limit is read to its end, so that its answer is not lost. A
// request has 5 seconds to come, an answer 5 seconds to be taken. A panic in a call is
// that call's answer.
package local
