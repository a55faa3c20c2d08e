package command

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/output"
)

// ledgerRecord is an entry of the ledger's journal, and of the runtime journal: an intent has an order and no
// answer, a result an answer and no order, and an order refused, or one that
// was rewritten, has both. It is JSON, so that a person can read what is there.
type ledgerRecord struct {
	V       int             `json:"v"` // version, recordVersion
	ID      string          `json:"id,omitempty"`
	Order   *recordedOrder  `json:"order,omitempty"`
	Answer  *recordedAnswer `json:"answer,omitempty"`
	Refused bool            `json:"refused,omitempty"`
	Until   *instant        `json:"until,omitempty"` // when it may be forgotten, where that is known
	Boot    string          `json:"boot,omitempty"`  // and in this boot not before
	Mono    int64           `json:"mono,omitempty"`  // this on CLOCK_BOOTTIME, nanoseconds
	// Unread says that it was decided while the ledger could not be read, Delivered
	// that its answer need not be given any more; both in the runtime journal.
	Unread    bool `json:"unread,omitempty"`
	Delivered bool `json:"delivered,omitempty"`
	// Forgot is ranges of the expiries of orders that were forgotten; an entry
	// that has it is about nothing else.
	Forgot [][2]instant `json:"forgot,omitempty"`
}

const recordVersion = 1

type recordedOrder struct {
	Output  string   `json:"output"`
	Action  string   `json:"action"`
	For     int64    `json:"for,omitempty"` // nanoseconds
	Expires *instant `json:"expires,omitempty"`
}

type recordedAnswer struct {
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

// intentRecord is the record that precedes the act.
func (k *knownOrder) intentRecord() ledgerRecord {
	o := k.order
	return ledgerRecord{
		V: recordVersion, ID: o.ID, Until: instantOf(k.expiry), Boot: k.boot, Mono: int64(k.until),
		Order: &recordedOrder{Output: o.Output, Action: string(o.Action), For: int64(o.For), Expires: instantOf(o.Expires)},
	}
}

// wholeRecord is the record of all that is known of an order.
func (k *knownOrder) wholeRecord() ledgerRecord {
	r := k.intentRecord()
	r.Refused, r.Unread, r.Delivered = k.refused, k.unread, k.delivered
	if k.answer != nil {
		r.Answer = newRecordedAnswer(*k.answer)
	}
	return r
}

// resultRecord is the record that follows the act.
func resultRecord(a Answer) ledgerRecord {
	return ledgerRecord{V: recordVersion, ID: a.ID, Answer: newRecordedAnswer(a)}
}

func newRecordedAnswer(a Answer) *recordedAnswer {
	hint := a.Hint
	if len(hint) > maxHint {
		hint = strings.ToValidUTF8(hint[:maxHint], "")
	}
	return &recordedAnswer{
		Status: string(a.Status), Output: a.Output, State: a.State, Reason: string(a.Reason), Hint: hint,
		Boot: a.Stamp.Boot, Mono: int64(a.Stamp.Mono), Wall: instantOf(a.Stamp.Wall), Synced: a.Stamp.Synced,
	}
}

// encode gives a record's bytes.
func (r ledgerRecord) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// errNotRecord is the reason when an entry's checksum holds and it is no record of
// ours: a later version's, perhaps.
var errNotRecord = errors.New("not an entry of the ledger")

func decodeRecord(b []byte) (ledgerRecord, error) {
	var r ledgerRecord
	err := json.Unmarshal(b, &r)
	about := r.ID != "" && (r.Order != nil || r.Answer != nil)
	if err != nil || r.V != recordVersion || about == (r.Forgot != nil) {
		return ledgerRecord{}, errNotRecord
	}
	return r, nil
}

// forgottenRecord is the record of the expiries that were forgotten.
func forgottenRecord(s timeRanges) ledgerRecord {
	r := ledgerRecord{V: recordVersion}
	for _, x := range s {
		r.Forgot = append(r.Forgot, [2]instant{*instantOf(x.from), *instantOf(x.to)})
	}
	return r
}

// knownOrder gives what the record says of an order. One whose intent is lost has no
// action; its id is known all the same.
func (r ledgerRecord) knownOrder() *knownOrder {
	k := &knownOrder{
		order: Order{ID: r.ID}, expiry: r.Until.time(), boot: r.Boot, until: time.Duration(r.Mono), refused: r.Refused,
		unread: r.Unread, delivered: r.Delivered,
	}
	if o := r.Order; o != nil {
		k.order.Output, k.order.Action, k.order.For = o.Output, output.Action(o.Action), time.Duration(o.For)
		k.order.Expires = o.Expires.time()
	}
	if r.Answer != nil {
		a := r.Answer.answer(r.ID)
		k.answer = &a
		if r.Order == nil {
			k.order.Output = a.Output
		}
	}
	return k
}

func (a *recordedAnswer) answer(id string) Answer {
	return Answer{
		ID: id, Status: Status(a.Status), Output: a.Output, State: a.State, Reason: Code(a.Reason), Hint: a.Hint,
		Stamp: clock.Stamp{Boot: a.Boot, Mono: time.Duration(a.Mono), Wall: a.Wall.time(), Synced: a.Synced},
	}
}

// replayed is what a journal holds.
type replayed struct {
	orders    []*knownOrder // in their order; one for each id
	forgotten []timeRange   // expiries of orders that were forgotten
	damage    journal.Damage
}

// replay reads a journal.
func replay(j *journal.Journal) (replayed, error) {
	found := map[string]*knownOrder{}
	var order []*knownOrder
	var forgotten []timeRange
	damage, err := j.Read(func(payload []byte) bool {
		r, err := decodeRecord(payload)
		if err != nil {
			return false
		}
		for _, x := range r.Forgot {
			forgotten = append(forgotten, timeRange{x[0].time(), x[1].time()})
		}
		if r.Forgot != nil {
			return true
		}
		k, known := found[r.ID]
		switch {
		case !known || r.Order != nil: // new, or its id came again after it had lapsed
			k = r.knownOrder()
			found[r.ID] = k
			order = append(order, k)
		case k.answer == nil:
			a := r.Answer.answer(r.ID)
			k.answer = &a
		}
		return true
	})
	if err != nil {
		return replayed{}, err
	}
	r := replayed{forgotten: forgotten, damage: damage}
	for _, k := range order {
		if found[k.order.ID] == k {
			r.orders = append(r.orders, k)
		}
	}
	return r, nil
}
