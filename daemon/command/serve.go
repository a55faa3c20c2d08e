package command

import (
	"context"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/uplink"
)

// Serve carries out the orders that come in until ctx ends or in is closed:
// those for one output one after the other, those for different outputs beside
// each other. After ctx has ended none begins, and Serve returns when those
// under way have ended. [CMD-13]
func (d *Dispatcher) Serve(ctx context.Context, in <-chan uplink.Message) error {
	var orders, rest sync.WaitGroup
	notes, stop := context.WithCancel(context.WithoutCancel(ctx))
	acks := &inOrderAcks{wake: make(chan struct{}, 1)}
	rest.Go(func() { d.ledger.run(notes) })
	rest.Go(func() { acks.run(notes) })
	rest.Go(func() { d.reportFloods(notes) })
	for _, a := range d.ledger.undelivered() {
		orders.Go(func() { d.deliverUnsure(ctx, a) })
	}
	err := d.receive(ctx, in, acks, &orders)
	if err != nil {
		d.stopAccepting()
	}
	orders.Wait()
	stop()
	rest.Wait()
	return err
}

// receive takes messages in their order, only that among those that wait orders
// to the safe level go first. Each that is an order has a goroutine until it is
// answered.
func (d *Dispatcher) receive(ctx context.Context, in <-chan uplink.Message, acks *inOrderAcks, orders *sync.WaitGroup) error {
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

// maxBatch is how many messages are looked at before the first is begun.
const maxBatch = 64

// arrival is a message that was decoded.
type arrival struct {
	message uplink.Message
	ack     *pendingAck // nil at QoS 0: nobody waits for one
	stray   bool        // it did not come on the topic of orders
	order   Order
	err     error
	safe    bool // it is an order to the safe level
	// overtaken says that one to the safe level came after it and goes first.
	overtaken bool
}

// receiveBatch takes a message and others that wait, decodes them, and has orders to
// the safe level go before the rest. [CMD-19]
func (d *Dispatcher) receiveBatch(m uplink.Message, ok bool, in <-chan uplink.Message, acks *inOrderAcks) (batch []arrival) {
	for {
		if ok && !m.Lost() { // [CMD-13]
			batch = append(batch, d.decodeMessage(m, acks))
		}
		if !ok || len(in) == 0 || len(batch) == maxBatch {
			break
		}
		m, ok = <-in // nobody else receives
	}
	return safeFirst(batch)
}

// safeFirst puts orders to the safe level first. Those before them for the same
// output are overtaken, as they would be in its lane. [CMD-15]
func safeFirst(batch []arrival) []arrival {
	var first, rest []arrival
	safe := map[string]bool{} // outputs for which one comes later
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

// open decodes a message, and has its acknowledgement keep its place.
func (d *Dispatcher) decodeMessage(m uplink.Message, acks *inOrderAcks) arrival {
	x := arrival{message: m}
	if m.QoS > 0 {
		x.ack = acks.add(m.Ack)
	}
	if x.stray = d.isStray(m); x.stray { // [CMD-18]
		return x
	}
	x.order, x.err = Decode(m.Payload, d.o.Thing)
	if m.Size > len(m.Payload) {
		x.err = tooLarge(m.Payload, m.Size, d.o.Thing)
	}
	if x.err == nil && !m.Retained {
		energises, exists := d.o.Outputs.Energises(x.order.Output, x.order.Action)
		x.safe = exists && !energises
	}
	return x
}

// begin has orders carried out.
func (d *Dispatcher) startOrders(ctx context.Context, batch []arrival, acks *inOrderAcks, orders *sync.WaitGroup) {
	for _, x := range batch {
		m, ack := x.message, x.ack
		if x.stray {
			acks.finish(ack, true)
			continue
		}
		finish := d.accept(x.order, x.err, max(m.Size, len(m.Payload)), source{
			cause: "mqtt", retained: m.Retained, mail: m.QoS > 0, stored: m.QoS > 0, limited: true, overtaken: x.overtaken, lost: m.Lost,
		})
		if finish == nil {
			acks.finish(ack, true)
			continue
		}
		orders.Go(func() { d.acknowledgeAndAnswer(ctx, finish(), acks, ack) })
	}
}

// finish acknowledges an order and passes its answer on, in the order that
// costs least if the daemon ends in between. [CMD-13]
func (d *Dispatcher) acknowledgeAndAnswer(ctx context.Context, a Answer, acks *inOrderAcks, ack *pendingAck) {
	switch {
	case a.Status == "": // the broker sends it again
		acks.finish(ack, false)
	case a.suppressed:
		acks.finish(ack, true)
	case a.sure:
		acks.finish(ack, d.deliver(ctx, a, ack != nil && !a.noWait))
	case a.Status == Refused:
		// It must not act after it was answered, and a power cut would have it
		// forgotten: acknowledged first, it does not come again.
		acks.finish(ack, true)
		if ack != nil {
			select {
			case <-ack.sent:
			case <-ctx.Done():
			}
		}
		d.deliverUnsure(ctx, a)
	default:
		d.deliverUnsure(ctx, a)
		acks.finish(ack, true)
	}
}

// passUnsure passes an answer on that is not in the ledger on disk. Where it is
// noted in the fallback journal, the next run gives it again unless it is known
// to have arrived.
func (d *Dispatcher) deliverUnsure(ctx context.Context, a Answer) {
	kept := d.o.Answer(a.Record())
	if !a.saved {
		return
	}
	if kept != nil {
		select {
		case <-kept:
		case <-ctx.Done():
			return
		}
	}
	_ = d.ledger.saveFallback(a.ID, true) // if not, it is told once more
	d.ledger.poke()
}

// lastPatience is how long an answer may take, once the dispatcher is to end, to be
// where a crash cannot cost it.
const lastPatience = time.Second

// pass passes an answer on. Where somebody waits for the receipt of its order,
// it returns when a crash cannot cost the answer any more; ok is false when that
// has not come before the end: the broker sends the order again then, and it
// gets the same answer. [CMD-13]
func (d *Dispatcher) deliver(ctx context.Context, a Answer, waits bool) (ok bool) {
	kept := d.o.Answer(a.Record())
	if kept == nil || !waits {
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
