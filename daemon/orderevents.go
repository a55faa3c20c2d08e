package daemon

import (
	"sync"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/wake"
)

// answerWithin is how long the event of an order waits for the order's answer.
const answerWithin = 50 * time.Millisecond

// orderEvents puts the events of outputs into the spool, and the event of an order from the
// broker behind the order's answer, which somebody waits for. Brokers that do not set
// TCP_NODELAY, such as a mosquitto as it is shipped, deliver the second of two messages a
// round trip later. Any goroutine.
type orderEvents struct {
	take func(message.Record)
	late wake.Signal // an event has waited for long enough: release is to be called

	mu    sync.Mutex
	held  *message.Record // the latest event, if its order is not answered yet
	timer *time.Timer     // sets late; a new one each time, see uplink's connection.serve
}

// put takes an event. Events keep their order.
func (e *orderEvents) put(r message.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.releaseLocked()
	if id, _ := r.Field("id").(string); id == "" || r.Field("cause") != "mqtt" {
		e.take(r)
		return
	}
	e.held = &r
	e.timer = time.AfterFunc(answerWithin, e.late.Set)
}

// answered is called when the answer of an order is in the spool.
func (e *orderEvents) answered(id any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held != nil && e.held.Field("id") == id {
		e.releaseLocked()
	}
}

// release lets an event go that waits.
func (e *orderEvents) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.releaseLocked()
}

func (e *orderEvents) releaseLocked() {
	if e.held == nil {
		return
	}
	e.timer.Stop()
	e.take(*e.held)
	e.held = nil
}
