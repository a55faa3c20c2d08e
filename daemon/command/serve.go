package command

import (
	"context"
	"slices"

	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
)

// Serve carries out the orders received from in until ctx ends or in is closed. Orders
// for one output are carried out one after the other, those for different outputs
// concurrently. After ctx has ended no order begins, and Serve returns when the present
// ones have ended. [CMD-13]
func (d *Dispatcher) Serve(ctx context.Context, in <-chan uplink.Message) error {
	orders, rest := task.NewGroup(ctx), task.NewGroup(ctx)
	last, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives the orders
	acks := newInOrderAcks()
	rest.Go("order ledger", func() { d.ledger.run(last) })
	rest.Go("order acknowledgements", func() { acks.run(last) })
	rest.Go("order floods", func() { d.floods.run(last) })
	for _, a := range d.ledger.undelivered() {
		orders.Go("unsure order", func() { d.deliverUnsure(ctx, a) })
	}
	err := d.receive(ctx, in, acks, orders)
	if err != nil {
		d.stopAccepting()
	}
	orders.Wait()
	stop()
	rest.Wait()
	return err
}

// receive takes messages in their order, but handles orders to the safe level before
// others that wait. Each order has a goroutine until it is answered.
func (d *Dispatcher) receive(ctx context.Context, in <-chan uplink.Message, acks *inOrderAcks, orders *task.Group) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-in:
			batch := d.receiveBatch(m, ok, in, acks)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.startOrders(ctx, batch, acks, orders)
			if !ok {
				return nil
			}
		}
	}
}

// maxBatch is how many waiting messages are decoded before the first order begins.
const maxBatch = 64

// arrival is a decoded message.
type arrival struct {
	message uplink.Message
	ack     *pendingAck // nil at QoS 0
	stray   bool        // it did not come on the topic of orders
	order   Order
	err     error
	safe    bool // an order to the safe level
	// overtaken says that a later order to the safe level goes first.
	overtaken bool
}

// receiveBatch decodes a message and others that wait, and puts orders to the safe level
// first. [CMD-19]
func (d *Dispatcher) receiveBatch(m uplink.Message, ok bool, in <-chan uplink.Message, acks *inOrderAcks) (batch []arrival) {
	for {
		if ok && !m.Lost() { // [CMD-13]
			batch = append(batch, d.decodeMessage(m, acks))
		}
		if !ok || len(in) == 0 || len(batch) == maxBatch {
			break
		}
		m, ok = <-in // only this goroutine receives
	}
	return safeFirst(batch)
}

// safeFirst puts orders to the safe level first. Earlier ones for the same output are
// overtaken, as in the output's queue. [CMD-15]
func safeFirst(batch []arrival) []arrival {
	var first, rest []arrival
	safe := map[string]bool{} // outputs with a later order to the safe level
	for _, x := range slices.Backward(batch) {
		if x.safe {
			safe[x.order.Output] = true
			first = append(first, x)
			continue
		}
		x.overtaken = !x.stray && x.err == nil && safe[x.order.Output]
		rest = append(rest, x)
	}
	slices.Reverse(first)
	slices.Reverse(rest)
	return append(first, rest...)
}

// decodeMessage decodes a message and queues its acknowledgement.
func (d *Dispatcher) decodeMessage(m uplink.Message, acks *inOrderAcks) arrival {
	x := arrival{message: m}
	if m.QoS > 0 {
		x.ack = acks.add(m.Ack)
	}
	if x.stray = d.isStray(m); x.stray { // [CMD-18]
		return x
	}
	x.order, x.err = Decode(m.Payload, d.settings.Load().Thing)
	if m.Size > len(m.Payload) {
		x.err = tooLarge(m.Payload, m.Size, d.settings.Load().Thing)
	}
	if x.err == nil && !m.Retained {
		energises, exists := d.o.Outputs.Energises(x.order.Output, x.order.Action, x.order.Level)
		x.safe = exists && !energises
	}
	return x
}

// startOrders carries out orders, each on its own goroutine.
func (d *Dispatcher) startOrders(ctx context.Context, batch []arrival, acks *inOrderAcks, orders *task.Group) {
	for _, x := range batch {
		m, ack := x.message, x.ack
		if x.stray {
			acks.finish(ack, true)
			continue
		}
		finish := d.accept(x.order, x.err, max(m.Size, len(m.Payload)), source{
			cause: "mqtt", retained: m.Retained, broker: m.QoS > 0, stored: m.QoS > 0, limited: true, overtaken: x.overtaken, lost: m.Lost,
		})
		if finish == nil {
			acks.finish(ack, true)
			continue
		}
		orders.Go("order", func() { d.acknowledgeAndAnswer(ctx, finish(), acks, ack) })
	}
}
