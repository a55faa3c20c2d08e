package command

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// After any sequence of adding, settling, refusing, forgetting and dropping lapsed
// orders, the counts are right and within the capacity, and no order that could act is
// forgotten without its expiry. [CMD-11] [CMD-20]
func TestKnownOrdersAgainstACount(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := &knownOrders{
			capacity: capacity{acted: 20, refused: 10, foreign: 5, actedBytes: 8000, refusedBytes: 3000}, maxLife: time.Hour,
			byID: map[string]*knownOrder{}, energises: func(o Order) bool { return o.Action == output.ActionOn },
		}
		now := clock.Stamp{Boot: "1", Wall: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Synced: true}
		sure := map[string]Order{} // that must not act again
		for i := range 400 {
			now.Mono += time.Duration(r.IntN(1200)) * time.Second
			now.Wall = now.Wall.Add(time.Duration(r.IntN(1200)) * time.Second)
			now.Synced = r.IntN(5) > 0
			o := Order{ID: fmt.Sprint("c-", r.IntN(60)), Output: "pump", Action: []output.Action{output.ActionOn, output.ActionOff}[r.IntN(2)]}
			if r.IntN(8) > 0 {
				o.Expires = now.Wall.Add(time.Duration(r.IntN(5000)-500) * time.Second)
			}
			a := Answer{ID: o.ID, Output: o.Output, Status: Refused, Stamp: now}
			switch k := s.byID[o.ID]; {
			case k != nil && k.answer == nil:
				s.settle(k, a)
			case k != nil: // it would get its first answer
			case r.IntN(2) == 0:
				if k := s.create(o, now, false); s.fits(k) {
					s.add(k)
					sure[fmt.Sprint(i)] = o
				}
			default:
				if _, _, lasts, _ := s.addRefused(o, a, false); lasts {
					sure[fmt.Sprint(i)] = o
				}
			}
			s.dropLapsed(now)
			var want usage
			for _, k := range s.byID {
				want.add(k, 1)
			}
			if s.used != want {
				t.Fatalf("seed %d: counted %+v, there are %+v", seed, s.used, want)
			}
			if u := s.used; u.acted > s.capacity.acted || u.refused > s.capacity.refused || u.refusedBytes > s.capacity.refusedBytes {
				t.Fatalf("seed %d: %+v is more than %+v", seed, u, s.capacity)
			}
		}
		for _, o := range sure {
			k := s.byID[o.ID]
			known := k != nil && k.order.same(o)
			if !known && s.energises(o) && !o.Expires.IsZero() && !s.forgotten.has(o.Expires) {
				t.Errorf("seed %d: order %s is forgotten, and its expiry is not known", seed, o.ID)
			}
		}
	}
}
