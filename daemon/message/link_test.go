package message

import (
	"testing"
	"time"

	"fieldpost/daemon/clock"
)

// What is said of the link is the same on the wire as in all versions.
func TestLink(t *testing.T) {
	at := clock.Stamp{Wall: time.Date(2026, 11, 21, 19, 2, 11, 123_456_789, time.UTC), Synced: true}
	from := Source{Thing: "greenhouse", Spool: "k7m2qx"}
	for _, c := range []struct {
		r    Record
		want string
	}{
		{Will(), `{"thing":"greenhouse","kind":"status","state":"offline","reason":"lost"}`},
		{Farewell(7, at, from, ReasonFailed), `{"thing":"greenhouse","kind":"status","spool":"k7m2qx","run":7,"time":"2026-11-21T19:02:11.123Z","state":"offline","reason":"failed"}`},
		{Farewell(7, at, from, ReasonStop), `{"thing":"greenhouse","kind":"status","spool":"k7m2qx","run":7,"time":"2026-11-21T19:02:11.123Z","state":"offline","reason":"stop"}`},
		{Online(7, at, from, "1.2"), `{"thing":"greenhouse","kind":"status","spool":"k7m2qx","run":7,"time":"2026-11-21T19:02:11.123Z","state":"online","version":"1.2"}`},
	} {
		if got := string(Encode("greenhouse", c.r)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
