// Package netwatch tells when the machine's network has changed so that a connection
// which failed a moment ago may work now: a link came up, an address or a route was
// added.
package netwatch

import (
	"time"
)

// rest is how long Watch waits after it has read something. What comes meanwhile stays
// in the socket, so a link that flaps, or a thousand routes, costs a few reads a second.
const rest = 250 * time.Millisecond
