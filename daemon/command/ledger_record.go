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

// ledgerRecord is an entry of the ledger's journal and of the runtime journal. An intent
// has an order and no answer, a result has an answer and no order. A refused or rewritten
// order has both. It is JSON, so that people can read it.
type ledgerRecord struct {
	V       int             `json:"v"` // version, recordVersion
	ID      string          `json:"id,omitempty"`
	Order   *recordedOrder  `json:"order,omitempty"`
	Answer  *recordedAnswer `json:"answer,omitempty"`
	Refused bool            `json:"refused,omitempty"`
	Until   *instant        `json:"until,omitempty"` // when it may be forgotten, if that is known
	Boot    string          `json:"boot,omitempty"`  // and not before Mono in this boot
	Mono    int64           `json:"mono,omitempty"`  // CLOCK_BOOTTIME, nanoseconds
	// Unread says that the order was decided while the ledger could not be read.
	// Delivered says that its answer need not be given any more. Both are only in the
	// runtime journal.
	Unread    bool `json:"unread,omitempty"`
	Delivered bool `json:"delivered,omitempty"`
	// Forgot has ranges of the expiries of forgotten orders. An entry with it has no
	// other fields.
	Forgot [][2]instant `json:"forgot,omitempty"`
}

const recordVersion = 1

type recordedOrder struct {
	Output  string   `json:"output"`
	Action  string   `json:"action"`
	Level   uint16   `json:"level,omitempty"` // of the action set, in hundredths of a percent
	For     int64    `json:"for,omitempty"`   // nanoseconds
	Expires *instant `json:"expires,omitempty"`
}

type recordedAnswer struct {
	Status string   `json:"status"`
	Output string   `json:"output,omitempty"`
	State  string   `json:"state,omitempty"`
	Level  *float64 `json:"level,omitempty"` // of a PWM output, in percent
	Reason string   `json:"reason,omitempty"`
	Hint   string   `json:"hint,omitempty"`
	Boot   string   `json:"boot,omitempty"`
	Mono   int64    `json:"mono,omitempty"`
	Wall   *instant `json:"wall,omitempty"`
	Synced bool     `json:"synced,omitempty"`
}

// instant is a time as seconds since 1970 and nanoseconds, because the year of an expiry
// may not fit into RFC 3339.
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

// maxHint limits the hint in a record, in bytes.
const maxHint = 4 << 10

// intentRecord returns the record to write before the order acts.
func (k *knownOrder) intentRecord() ledgerRecord {
	o := k.order
	return ledgerRecord{
		V: recordVersion, ID: o.ID, Until: instantOf(k.expiry), Boot: k.boot, Mono: int64(k.until),
		Order: &recordedOrder{Output: o.Output, Action: string(o.Action), Level: uint16(o.Level), For: int64(o.For), Expires: instantOf(o.Expires)},
	}
}

// wholeRecord returns a record of everything that is known of an order.
func (k *knownOrder) wholeRecord() ledgerRecord {
	r := k.intentRecord()
	r.Refused, r.Unread, r.Delivered = k.refused, k.unread, k.delivered
	if k.answer != nil {
		r.Answer = newRecordedAnswer(*k.answer)
	}
	return r
}

// resultRecord returns the record to write after the order has acted.
func resultRecord(a Answer) ledgerRecord {
	return ledgerRecord{V: recordVersion, ID: a.ID, Answer: newRecordedAnswer(a)}
}

func newRecordedAnswer(a Answer) *recordedAnswer {
	hint := a.Hint
	if len(hint) > maxHint {
		hint = strings.ToValidUTF8(hint[:maxHint], "")
	}
	return &recordedAnswer{
		Status: string(a.Status), Output: a.Output, State: a.State, Level: a.Level.Pointer(), Reason: string(a.Reason), Hint: hint,
		Boot: a.Stamp.Boot, Mono: int64(a.Stamp.Mono), Wall: instantOf(a.Stamp.Wall), Synced: a.Stamp.Synced,
	}
}

// encode returns a record's bytes.
func (r ledgerRecord) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // cannot happen: only strings and numbers
	}
	return b
}

// errNotRecord is the reason when an entry has the right checksum but cannot be decoded,
// perhaps because a later version wrote it.
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

// forgottenRecord returns the record of the forgotten expiries.
func forgottenRecord(s timeRanges) ledgerRecord {
	r := ledgerRecord{V: recordVersion}
	for _, x := range s {
		r.Forgot = append(r.Forgot, [2]instant{*instantOf(x.from), *instantOf(x.to)})
	}
	return r
}

// knownOrder returns the record's order. Without its intent it has no action, but its id
// is known.
func (r ledgerRecord) knownOrder() *knownOrder {
	k := &knownOrder{
		order: Order{ID: r.ID}, expiry: r.Until.time(), boot: r.Boot, until: time.Duration(r.Mono), refused: r.Refused,
		unread: r.Unread, delivered: r.Delivered,
	}
	if o := r.Order; o != nil {
		k.order.Output, k.order.Action, k.order.Level, k.order.For = o.Output, output.Action(o.Action), output.Level(o.Level), time.Duration(o.For)
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
	var level Percent
	if a.Level != nil {
		level = Percent{*a.Level, true}
	}
	return Answer{
		ID: id, Status: Status(a.Status), Output: a.Output, State: a.State, Level: level, Reason: Code(a.Reason), Hint: a.Hint,
		Stamp: clock.Stamp{Boot: a.Boot, Mono: time.Duration(a.Mono), Wall: a.Wall.time(), Synced: a.Synced},
	}
}

// replayed is the contents of a journal.
type replayed struct {
	orders    []*knownOrder // sorted; one for each id
	forgotten []timeRange   // expiries of forgotten orders
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
		case !known || r.Order != nil: // new, or its id was used again after it had lapsed
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
