package outbox

import (
	"cmp"
	"sync"
	"time"

	"fieldpost/daemon/message"
)

const (
	// mostAnswers is how many answers are waited for: more than a broker sends
	// orders without acknowledgements (mosquitto 20, AWS IoT Core 100). Those
	// beyond count as kept, so that memory is bounded whatever comes.
	mostAnswers = 256
	// longestAnswer bounds how long one is waited for. An answer that the broker
	// does not take must not keep orders away for as long as at_risk may be.
	longestAnswer = 10 * time.Second
)

// DurableAfter is when the spool has on disk what it was given, unless the disk
// fails: written after a second, and synced before the time at risk is over.
func DurableAfter(atRisk time.Duration) time.Duration {
	return min(atRisk+time.Second, longestAnswer)
}

// Answers is which answers a crash could yet cost: the broker has not
// acknowledged them, and they need not be on disk. Its methods may be called
// from any goroutine. The zero value is ready.
type Answers struct {
	mu   sync.Mutex
	open map[decision]*waiter
}

// decision names an answer. One that is given twice is one: it does not matter
// which of the two arrives.
type decision struct {
	id, status, boot string
	mono             time.Duration
}

type waiter struct {
	kept  chan struct{}
	timer *time.Timer
}

func decisionOf(r message.Record) decision {
	d := decision{boot: r.Stamp.Boot, mono: r.Stamp.Mono}
	for _, f := range r.Fields {
		text, _ := f.Value.(string)
		switch f.Name {
		case "id":
			d.id = text
		case "status":
			d.status = text
		}
	}
	return d
}

// Await is called before an answer goes into the spool. kept is closed when it
// has arrived, at the latest after patience, when it is on disk ([DurableAfter]); nil
// is where too many are waited for.
func (a *Answers) Await(r message.Record, patience time.Duration) (kept <-chan struct{}) {
	of := decisionOf(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.open[of]; w != nil {
		return w.kept
	}
	if len(a.open) >= mostAnswers {
		return nil
	}
	if a.open == nil {
		a.open = map[decision]*waiter{}
	}
	w := &waiter{kept: make(chan struct{})}
	w.timer = time.AfterFunc(patience, func() { a.end(of, w) })
	a.open[of] = w
	return w.kept
}

// Arrived notes that the broker has acknowledged an answer.
func (a *Answers) Arrived(r message.Record) { a.end(decisionOf(r), nil) }

// end has nobody wait any more; w is which, nil whichever there is.
func (a *Answers) end(of decision, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.open[of]
	if now == nil || now != cmp.Or(w, now) {
		return
	}
	now.timer.Stop()
	delete(a.open, of)
	close(now.kept)
}
