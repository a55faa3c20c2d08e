package command

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// note is an entry of the ledger's journal: an intent has an order and no
// answer, a result an answer and no order, and an order refused, or one that
// was rewritten, has both. It is JSON, so that a person can read what is there.
type note struct {
	V       int         `json:"v"` // version, noteVersion
	ID      string      `json:"id,omitempty"`
	Order   *noteOrder  `json:"order,omitempty"`
	Answer  *noteAnswer `json:"answer,omitempty"`
	Refused bool        `json:"refused,omitempty"`
	Until   *instant    `json:"until,omitempty"` // when it may be forgotten, where that is known
	Boot    string      `json:"boot,omitempty"`  // and in this boot not before
	Mono    int64       `json:"mono,omitempty"`  // this on CLOCK_BOOTTIME, nanoseconds
	// Unread says that it was decided while the ledger could not be read, and Told
	// that its answer need not be given any more; both in the fallback journal.
	Unread    bool `json:"unread,omitempty"`
	Delivered bool `json:"delivered,omitempty"`
	// Forgot is ranges of the expiries of orders that were forgotten; an entry
	// that has it is about nothing else.
	Forgot [][2]instant `json:"forgot,omitempty"`
}

const noteVersion = 1

type noteOrder struct {
	Output  string   `json:"output"`
	Action  string   `json:"action"`
	For     int64    `json:"for,omitempty"` // nanoseconds
	Expires *instant `json:"expires,omitempty"`
}

type noteAnswer struct {
	Status string   `json:"status"`
	Output string   `json:"output,omitempty"`
	State  string   `json:"state,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Hint   string   `json:"hint,omitempty"`
	Boot   string   `json:"boot,omitempty"`
	Mono   int64    `json:"mono,omitempty"`
	Wall   *instant `json:"wall,omitempty"`
	Synced bool     `json:"synced,omitempty"`
}

// instant is a time as seconds since 1970 and nanoseconds: an expiry may lie in
// a year that RFC 3339 cannot write.
type instant [2]int64

func instantOf(t time.Time) *instant {
	if t.IsZero() {
		return nil
	}
	return &instant{t.Unix(), int64(t.Nanosecond())}
}

func (m *instant) time() time.Time {
	if m == nil {
		return time.Time{}
	}
	return time.Unix(m[0], m[1]).UTC()
}

// maxHint bounds the hint that is written, in bytes.
const maxHint = 4 << 10

// intent is the entry that precedes the act.
func (e *entry) intent() note {
	o := e.order
	return note{
		V: noteVersion, ID: o.ID, Until: instantOf(e.expiry), Boot: e.boot, Mono: int64(e.until),
		Order: &noteOrder{Output: o.Output, Action: string(o.Action), For: int64(o.For), Expires: instantOf(o.Expires)},
	}
}

// whole is the entry of all that is known of an order.
func (e *entry) whole() note {
	n := e.intent()
	n.Refused, n.Unread, n.Delivered = e.refused, e.unread, e.delivered
	if e.answer != nil {
		n.Answer = noteOf(*e.answer)
	}
	return n
}

// result is the entry that follows the act.
func result(a Answer) note { return note{V: noteVersion, ID: a.ID, Answer: noteOf(a)} }

func noteOf(a Answer) *noteAnswer {
	hint := a.Hint
	if len(hint) > maxHint {
		hint = strings.ToValidUTF8(hint[:maxHint], "")
	}
	return &noteAnswer{
		Status: string(a.Status), Output: a.Output, State: a.State, Reason: string(a.Reason), Hint: hint,
		Boot: a.Stamp.Boot, Mono: int64(a.Stamp.Mono), Wall: instantOf(a.Stamp.Wall), Synced: a.Stamp.Synced,
	}
}

// encode gives an entry's bytes.
func (n note) encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// errNote is the reason when an entry's checksum holds and it is no entry of
// ours: a later version's, perhaps.
var errNote = errors.New("not an entry of the ledger")

func decodeNote(b []byte) (note, error) {
	var n note
	err := json.Unmarshal(b, &n)
	about := n.ID != "" && (n.Order != nil || n.Answer != nil)
	if err != nil || n.V != noteVersion || about == (n.Forgot != nil) {
		return note{}, errNote
	}
	return n, nil
}

// forgotten is the entry of the expiries that were forgotten.
func forgotten(s timeRanges) note {
	n := note{V: noteVersion}
	for _, x := range s {
		n.Forgot = append(n.Forgot, [2]instant{*instantOf(x.from), *instantOf(x.to)})
	}
	return n
}

// entry gives what the note says of an order. One whose intent is lost has no
// action; its id is known all the same.
func (n note) entry() *entry {
	e := &entry{
		order: Order{ID: n.ID}, expiry: n.Until.time(), boot: n.Boot, until: time.Duration(n.Mono), refused: n.Refused,
		unread: n.Unread, delivered: n.Delivered,
	}
	if o := n.Order; o != nil {
		e.order.Output, e.order.Action, e.order.For = o.Output, output.Action(o.Action), time.Duration(o.For)
		e.order.Expires = o.Expires.time()
	}
	if n.Answer != nil {
		a := n.Answer.answer(n.ID)
		e.answer = &a
		if n.Order == nil {
			e.order.Output = a.Output
		}
	}
	return e
}

func (n *noteAnswer) answer(id string) Answer {
	return Answer{
		ID: id, Status: Status(n.Status), Output: n.Output, State: n.State, Reason: Code(n.Reason), Hint: n.Hint,
		Stamp: clock.Stamp{Boot: n.Boot, Mono: time.Duration(n.Mono), Wall: n.Wall.time(), Synced: n.Synced},
	}
}
