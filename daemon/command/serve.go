package command

import (
	"context"
	"sync"

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
			finish := d.take(m.Payload, source{cause: "mqtt", retained: m.Retained, mail: m.QoS > 0, stored: m.QoS > 0, lost: m.Lost})
			if finish == nil {
				acks.close(r, true)
				continue
			}
			orders.Go(func() {
				a := finish()
				if a.Status != "" {
					d.o.Answer(a.Record())
				}
				acks.close(r, a.Status != "")
			})
		}
	}
}
