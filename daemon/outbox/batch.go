package outbox

import "time"

const (
	// batchBytes bounds a message of several records. AWS IoT Core accepts 128 KiB, but only
	// 512 KiB per second. The uplink limits itself to 416 KiB and one such message.
	batchBytes = 96 << 10
	// openBytes bounds all open batches together.
	openBytes = 1 << 20
)

// batch is a JSON array of records that is being filled.
type batch struct {
	topic string
	ids   []uint64
	json  []byte    // without the closing bracket
	begun time.Time // when the first record was added
	due   time.Time // when it is sent even if it is not full
}

// newBatch begins a batch with a record.
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

// longestOpen returns the batch that was begun first, if that was at least Batch.Within ago.
// So the few readings of one topic do not wait for the backlog of others.
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
