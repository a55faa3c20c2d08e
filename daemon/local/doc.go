// Package local is how people and programs on the same machine reach the
// daemon: HTTP on a unix socket.
//
// Package api has the routes, the types that they take and give, and the
// OpenAPI document that describes them; the daemon serves it at /openapi.json.
// So
//
//	curl --unix-socket /run/fieldpost/fieldpost.sock http://localhost/v1/status
//
// is a client, and [Do] is another. What does not succeed is answered with a
// status other than 200 and an [api.ErrorAnswer], which says what to do. Only
// what is no HTTP at all gets the short text of net/http.
//
// Who may connect is decided by the socket's mode, 0660. Who did is known from
// the kernel (SO_PEERCRED, unix(7)): it cannot be forged, and it is recorded as
// the cause of what was ordered.
//
// No client can hold up the daemon, and no user another. Of a user's
// connections 8 may wait for a request, 128 of all; for one more, the oldest of
// those is closed, and told so unless it was idle after an answer. Of a user's
// calls 8 may be under way, 16 of all, and more are turned away. Orders have
// places of their own: when a user's 16 are taken, the oldest is answered that
// it is still under way, so that a new one always begins. The header of a
// request has at most 8 KiB and its body 64 KiB; a larger body is read to its
// end, so that its answer is not lost. A request has 5 seconds to come, an answer
// 5 seconds to be taken, and a connection is idle for 5 seconds at most. A panic
// in a call is that call's answer.
package local
