package command

import (
	"context"
	"sync"
	"time"

	"fieldpost/daemon/uplink"
)

// Serve carries out the orders that come in until ctx ends or in is closed:
// those for one output one after the other, those for different outputs beside
// each other. After ctx has ended none begins, and Serve returns when those
// under way have ended. [CMD-13]
func (d *Desk) Serve(ctx context.Context, in <-chan uplink.Message) error {
	var orders, rest sync.WaitGroup
	notes, stop := context.WithCancel(context.WithoutCancel(ctx))
	acks := &receipts{wake: make(chan struct{}, 1)}
	rest.Go(func() { d.ledger.run(notes) })
	rest.Go(func() { acks.run(notes) })
	err := d.receive(ctx, in, acks, &orders)
	if err != nil {
		d.end()
	}
	orders.Wait()
	stop()
	rest.Wait()
	return err
}

// receive takes messages in their order; each that is an order has a goroutine
// until it is answered.
func (d *Desk) receive(ctx context.Context, in <-chan uplink.Message, acks *receipts, orders *sync.WaitGroup) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-in:
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case !ok:
				return nil
			case m.Lost(): // [CMD-13]
				continue
			}
			var r *receipt // at QoS 0 nobody waits for one
			if m.QoS > 0 {
				r = acks.open(m.Ack)
			}
			if d.misplaced(m) { // [CMD-18]
				acks.close(r, true)
				continue
			}
			finish := d.take(m.Payload, source{cause: "mqtt", size: m.Size, retained: m.Retained, mail: m.QoS > 0, stored: m.QoS > 0, lost: m.Lost})
			if finish == nil {
				acks.close(r, true)
				continue
			}
			orders.Go(func() {
				a := finish()
				acks.close(r, a.Status != "" && d.pass(ctx, a, r != nil))
			})
		}
	}
}

// lastPatience is how long an answer may take, once the desk is to end, to be
// where a crash cannot cost it.
const lastPatience = time.Second

// pass passes an answer on. Where somebody waits for the receipt of its order,
// it returns when a crash cannot cost the answer any more; ok is false when that
// has not come before the end: the broker sends the order again then, and it
// gets the same answer. Where that is not sure it does not wait: an order must
// not act that was answered refused, nor twice. [CMD-13]
func (d *Desk) pass(ctx context.Context, a Answer, waits bool) (ok bool) {
	kept := d.o.Answer(a.Record())
	if kept == nil || !waits || !a.sure {
		return true
	}
	select {
	case <-kept:
		return true
	case <-ctx.Done():
	}
	timer := time.NewTimer(lastPatience)
	defer timer.Stop()
	select {
	case <-kept:
		return true
	case <-timer.C:
		return false
	}
}
