package outbox

import "time"

const (
	// batchBytes bounds a message of several records. AWS IoT Core takes 128 KiB, but
	// only 512 KiB a second; at the uplink's 416 one message more must fit.
	batchBytes = 96 << 10
	// openBytes bounds the batches that are open at one time.
	openBytes = 1 << 20
)

// batch is an array of records that is being filled.
type batch struct {
	topic string
	ids   []uint64
	json  []byte    // without the closing bracket
	begun time.Time // when the first was put in
	due   time.Time // when it goes, full or not, where nothing else does
}

func newBatch(l encoded) *batch {
	b := &batch{topic: l.topic, ids: []uint64{l.item.ID}, begun: time.Now()}
	b.json = append(append(b.json, '['), l.payload...)
	return b
}

func (b *batch) fits(l encoded) bool { return len(b.json)+len(l.payload)+2 <= batchBytes }

func (b *batch) add(l encoded) {
	b.ids = append(b.ids, l.item.ID)
	b.json = append(append(b.json, ','), l.payload...)
}

// longestOpen gives the batch that was begun first, if that was Batch.Within ago: so
// the few readings of one topic do not wait until the backlog of others has gone.
func (o *Outbox) longestOpen() (first *batch) {
	for _, b := range o.open {
		if first == nil || b.begun.Before(first.begun) || b.begun.Equal(first.begun) && b.ids[0] < first.ids[0] {
			first = b
		}
	}
	if first == nil || time.Since(first.begun) < o.Config.Readings.Batch.Within {
		return nil
	}
	return first
}
