package uplink

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// seeded returns a reproducible random source for a backoff.
func seeded(seed uint64) func(below time.Duration) time.Duration {
	r := rand.New(rand.NewPCG(seed, 0))
	return func(below time.Duration) time.Duration { return time.Duration(r.Int64N(int64(below))) }
}

// outage dials while the broker may be away.
type outage func(ctx context.Context, away func() bool) error

// refusedSYN simulates an answer instead of the broker's: from its machine, a router or a
// name server.
func refusedSYN(_ context.Context, away func() bool) error {
	if away() {
		return syscall.ECONNREFUSED
	}
	return nil
}

// unansweredSYN simulates no answer. The kernel repeats a SYN after 1, 2, 4 and 8 s.
func unansweredSYN(ctx context.Context, away func() bool) error {
	for again := time.Second; away(); again *= 2 {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// After outages from a second to an hour, nine of ten links are connected within five
// seconds of the broker's return, without any event from the kernel.
func TestBackSoonAfterTheBroker(t *testing.T) {
	for name, o := range map[string]outage{"refused": refusedSYN, "unanswered": unansweredSYN} {
		t.Run(name, func(t *testing.T) {
			var took []time.Duration
			for seed := range uint64(3) {
				synctest.Test(t, func(t *testing.T) { took = append(took, timesToReturn(t, o, 60, seed)...) })
			}
			slices.Sort(took)
			n := len(took)
			t.Logf("%d outages: p50 %v, p90 %v, p99 %v, most %v", n, took[n/2], took[n*9/10], took[n*99/100], took[n-1])
			if p90 := took[n*9/10]; p90 > 5*time.Second {
				t.Errorf("p90 is %v", p90)
			}
		})
	}
}

// timesToReturn returns the times from the broker's return to a connection, for a number
// of outages.
func timesToReturn(t *testing.T, o outage, outages int, seed uint64) (took []time.Duration) {
	b := newBroker(t)
	c := b.config()
	var up atomic.Bool
	up.Store(true)
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := o(ctx, func() bool { return !up.Load() }); err != nil {
			return nil, err
		}
		return b.dial(ctx, network, address)
	}
	l := runWaiting(t, c, seeded(seed))
	p := b.accept(true)
	lasts := rand.New(rand.NewPCG(seed, 1))
	for range outages {
		p.quiet(2 * time.Minute)
		up.Store(false)
		p.hangUp()
		<-time.After(time.Duration(float64(time.Second) * math.Pow(3600, lasts.Float64())))
		up.Store(true)
		began := time.Now()
		p = b.accept(true)
		took = append(took, time.Since(began))
	}
	l.end(t, p)
	return took
}

// A thousand boards that lose their broker at the same moment do not return all at once,
// however long it was away. Those that a broker refuses wait longer.
func TestThousandBoardsSpread(t *testing.T) {
	const boards = 1000
	for _, away := range []time.Duration{0, 2 * time.Second, 5 * time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour} {
		worst := 0
		for seed := range uint64(10) {
			var connects []time.Duration
			random := seeded(seed)
			for range boards {
				b := backoff{random: random}
				at := b.next(backoffMax)
				for at < away {
					at += b.nextUnreached(0)
				}
				connects = append(connects, at)
			}
			worst = max(worst, mostInASecond(connects))
		}
		t.Logf("away for %v: at most %d CONNECTs a second", away, worst)
		if worst > boards/2 {
			t.Errorf("away for %v: %d CONNECTs in a second", away, worst)
		}
	}
	var connects []time.Duration
	random := seeded(0)
	for range boards {
		b := backoff{random: random}
		for at := time.Duration(0); at < time.Hour; at += b.next(backoffMax) {
			if at > 10*time.Minute {
				connects = append(connects, at)
			}
		}
	}
	most := mostInASecond(connects)
	t.Logf("a broker that hangs up on all: at most %d CONNECTs a second after ten minutes", most)
	if most > 50 {
		t.Errorf("%d CONNECTs in a second at a broker that hangs up", most)
	}
}

// mostInASecond returns the largest number within one second.
func mostInASecond(at []time.Duration) (most int) {
	slices.Sort(at)
	first := 0
	for i := range at {
		for at[i]-at[first] >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
