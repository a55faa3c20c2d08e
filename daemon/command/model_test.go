package command

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/output"
)

// model is a second, simple implementation of the gate: it keeps all answered orders in a
// list and forgets none.
type model struct {
	answered []modelled
}

type modelled struct {
	order  Order
	status Status
	reason Code
}

// expect returns the expected outcome of an order.
func (m *model) expect(o Order, retained bool, now time.Time, synced bool) (status Status, reason Code, acts bool) {
	if retained {
		return Refused, Retained, false
	}
	safe := o.Output == "pump" && o.Action == output.ActionOff || o.Output == "lock" && o.Action == output.ActionOn
	for _, first := range m.answered {
		if o.ID != "" && first.order.ID == o.ID && !(safe && first.order != o) {
			return first.status, first.reason, false
		}
	}
	switch {
	case o.Output != "pump" && o.Output != "lock":
		status, reason = Refused, UnknownOutput
	case safe:
		status, acts = Done, true
	case o.ID == "" || o.Expires.IsZero():
		status, reason = Refused, Unstamped
	case !synced:
		status, reason = Refused, ClockUnsynced
	case !now.Before(o.Expires):
		status, reason = Refused, Expired
	case o.Expires.After(now.Add(time.Hour)):
		status, reason = Refused, TooFarAhead
	default:
		status, acts = Done, true
	}
	if !m.knows(o.ID) {
		m.answered = append(m.answered, modelled{o, status, reason})
	}
	return status, reason, acts
}

func (m *model) knows(id string) bool {
	for _, first := range m.answered {
		if first.order.ID == id {
			return true
		}
	}
	return false
}

// With random orders at random times, many of them repeated, and a clock that is
// synchronised only at times, the dispatcher does what the model says for less than a
// day, in which it must know every id. [CMD-3] to [CMD-11]
func TestGateAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			h, m, r := newHarness(t), &model{}, rand.New(rand.NewPCG(seed, 81))
			pick := func(of ...string) string { return of[r.IntN(len(of))] }
			var sent [][]byte
			for i := range 400 {
				<-time.After(time.Duration(r.IntN(200)) * time.Second)
				h.unsynced = r.IntN(5) == 0
				var text []byte
				if len(sent) > 0 && r.IntN(3) == 0 {
					text = sent[r.IntN(len(sent))]
				} else {
					expires := time.Duration(r.IntN(5400)-600) * time.Second
					if r.IntN(4) == 0 {
						expires = 0 // none
					}
					id := pick("", fmt.Sprint("c-", i), fmt.Sprint("c-", r.IntN(i+1)))
					text = order(id, pick("pump", "lock", "pumpe"), pick("on", "off", "toggle", "pulse"), expires)
					sent = append(sent, text)
				}
				o, err := Decode(text, thing)
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				retained := r.IntN(8) == 0
				status, reason, acts := m.expect(o, retained, time.Now(), !h.unsynced)
				before := len(h.pins.did)
				a, ok := h.dispatcher.Handle(text, retained, "test")
				if acted := len(h.pins.did) > before; !ok || a.Status != status || a.Reason != reason || acted != acts {
					t.Fatalf("seed %d, order %d: %s (retained %v)\n%+v, acted %v; the model says %s %s, acts %v", seed, i, text, retained, a, acted, status, reason, acts)
				}
			}
		})
	}
}
