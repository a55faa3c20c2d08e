package daemon

import "time"

const (
	// batchBytes bounds a mail of several records. AWS IoT Core takes 128 KiB, but
	// only 512 KiB a second; at the uplink's 416 one mail more than that must fit.
	batchBytes = 96 << 10
	// openBytes bounds the batches that are open at one time.
	openBytes = 1 << 20
)

// batch is an array of records that is being filled.
type batch struct {
	topic string
	ids   []uint64
	json  []byte    // without the closing bracket
	due   time.Time // when it goes, full or not
}

func newBatch(l letter) *batch {
	b := &batch{topic: l.topic, ids: []uint64{l.item.ID}}
	b.json = append(append(b.json, '['), l.payload...)
	return b
}

func (b *batch) fits(l letter) bool { return len(b.json)+len(l.payload)+2 <= batchBytes }

func (b *batch) add(l letter) {
	b.ids = append(b.ids, l.item.ID)
	b.json = append(append(b.json, ','), l.payload...)
}
