//go:build chaos && linux

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// starved is the time without readings after which the daemon was probably not scheduled.
const starved = 300 * time.Millisecond

func (b *checker) take(n number, at time.Duration, kind, message string) {
	b.run = n.run
	r := b.runs[n.run]
	if r == nil {
		r = &runState{first: map[string]time.Duration{}, latest: map[string]uint64{}, unreliable: b.weakFrom != 0}
		b.runs[n.run] = r
	}
	if _, ok := r.first[n.sensor]; !ok {
		r.first[n.sensor] = at
	}
	if r.last != 0 && at-r.last > starved && b.activeTime(r.last, at) > starved {
		// Four sensors are read every 50 ms, so the daemon did not run.
		b.tolerate("the daemon was not scheduled for a while", at-r.last)
		b.stops = append(b.stops, pause{r.last, at})
	}
	r.last = max(r.last, at)
	b.nTaken++
	if b.items[n] != nil {
		b.complain("taken twice: %+v", n)
		return
	}
	it := &item{kind: kind, message: message, at: at}
	b.items[n] = it
	r.latest[n.sensor] = max(r.latest[n.sensor], n.seq)
	if got, ok := b.early[n]; ok {
		delete(b.early, n)
		b.got(n, it, got)
	}
}

func (b *checker) ack(n number, at time.Duration, message string) {
	if n.seq == 0 {
		b.ackGaps[message] = at
	} else if it := b.items[n]; it != nil {
		it.acked = at
		if it.arrived {
			b.heard = max(b.heard, at)
		}
	}
}

// arrive handles a message that the subscriber got: one of the daemon's, an array of
// them, or an order.
func (b *checker) arrive(topic string, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeLocked()
	if strings.HasPrefix(topic, "test/topic/commands") || topic == "test/topic/elsewhere" {
		b.count["orders at the broker"]++
		return
	}
	of, named := strings.CutPrefix(topic, "test/topic/by/")
	messages := []json.RawMessage{payload}
	if bytes.HasPrefix(payload, []byte("[")) {
		if err := json.Unmarshal(payload, &messages); err != nil {
			b.complain("arrived: %q: %v", payload, err)
		}
		b.count["batches arrived"]++
	}
	for _, m := range messages {
		b.message(string(m), of, named)
	}
}

// runOf returns the name of a run.
func runOf(spool string, run uint64) string { return fmt.Sprintf("%s/%d", spool, run) }

// message handles one message. named says that its topic contains the thing's name.
func (b *checker) message(payload, of string, named bool) {
	var m struct {
		Thing, Kind, Sensor, State, Reason, Action, Spool string

		Run, Seq uint64
	}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	switch {
	case m.Action != "": // a stray order on the topic of readings
	case m.Kind == "probe": // it is on the topic of a thing and names none
	case named && m.Thing != of:
		b.complain("arrived on the topic of %q: %s", of, payload)
	case m.Kind == "answer":
		b.answer(payload)
	case m.Kind == "gap":
		b.gap(payload)
	case m.Kind == "status" && m.Reason == "stop":
		b.farewell = runOf(m.Spool, m.Run)
	case m.Kind == "":
		n := number{m.Sensor, runOf(m.Spool, m.Run), m.Seq}
		if it := b.items[n]; it != nil {
			b.got(n, it, payload)
		} else if r := b.runs[n.run]; r == nil || r.first != nil {
			b.early[n] = payload
		}
	}
}

func (b *checker) got(n number, it *item, payload string) {
	if it.arrived {
		b.count["came again"]++
		if !b.mayRepeat(it) {
			b.complain("%+v came again %v after it was acknowledged", n, b.now()-it.acked)
		}
		return
	}
	b.nGot++
	switch {
	case payload == it.message:
	case b.filled(it.message, payload):
		b.count["taken unsynced, arrived with its time"]++
	default:
		b.complain("taken %s, arrived %s", it.message, payload)
	}
	it.arrived, it.message, it.came = true, "", b.now()
	if n.run != b.run {
		b.oldCame = it.came
	}
	b.heard = max(b.heard, it.acked)
	latest := n.sensor + " " + it.kind
	b.freshest[latest] = max(b.freshest[latest], it.at)
	// Sensors and kinds take turns, but each keeps its order.
	k := fmt.Sprintf("%s %s %s", n.sensor, n.run, it.kind)
	if b.first[k] > n.seq && (it.acked == 0 || !b.brokerLost(it.acked)) {
		b.complain("%s %+v came for the first time after seq %d; it was acknowledged %v after it was taken", it.kind, n, b.first[k], it.acked-it.at)
	}
	b.first[k] = max(b.first[k], n.seq)
}

// repeatsWithin is how long after its PUBACK a message that was sent twice may arrive
// again.
const repeatsWithin = 5 * time.Second

// mayRepeat reports whether an item may arrive again: not if the daemon had the time to
// record its acknowledgement, and the broker did not lose the state of its delivery.
func (b *checker) mayRepeat(it *item) bool {
	now := b.now()
	lost := func(at time.Duration) bool { return at >= it.acked && b.activeTime(it.acked, at) <= killCosts }
	return it.acked == 0 || now-it.acked < repeatsWithin || b.activeTime(it.acked, now) <= killCosts ||
		slices.ContainsFunc(b.kills, lost) ||
		slices.ContainsFunc(b.crashes, func(x crash) bool { return x.at >= it.acked-brokerCosts })
}

// filled reports whether arrived is the message taken, which was taken while the clock
// was not synchronised, with the time filled in.
func (b *checker) filled(taken, arrived string) bool {
	before, after := map[string]any{}, map[string]any{}
	if json.Unmarshal([]byte(taken), &before) != nil || json.Unmarshal([]byte(arrived), &after) != nil {
		return false
	}
	if before["clock"] != "unsynced" || after["clock"] != nil {
		return false
	}
	was, err := time.Parse(time.RFC3339, fmt.Sprint(before["time"]))
	is, bad := time.Parse(time.RFC3339, fmt.Sprint(after["time"]))
	delete(before, "clock")
	delete(before, "time")
	delete(after, "time")
	if err != nil || bad != nil || !reflect.DeepEqual(before, after) {
		return false
	}
	by := is.Sub(was)
	for from := range maps.Keys(b.offs) {
		for to := range maps.Keys(b.offs) {
			if d := by - (to - from); d.Abs() < 20*time.Millisecond { // for rounding, and for corrections of the clock
				return true
			}
		}
	}
	return false
}

func (b *checker) gap(payload string) {
	if b.told[payload] {
		return
	}
	b.told[payload] = true
	m := struct {
		Sensor, Reason, Spool string

		Run     uint64
		After   uint64  `json:"after_seq"`
		To      *uint64 `json:"to_seq"`
		Certain *bool
		Count   int
	}{}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		b.complain("arrived: %q: %v", payload, err)
		return
	}
	b.count["gap "+m.Reason]++
	if m.Sensor == "" {
		b.count["LOST and reported: messages other than readings and edges"] += m.Count
		b.givenUp()
		return
	}
	h := claimedGap{sensor: m.Sensor, run: runOf(m.Spool, m.Run), from: m.After + 1, to: 1<<64 - 1, certain: m.Certain == nil || *m.Certain, reason: m.Reason}
	if m.To != nil {
		h.to = *m.To
	}
	b.claimedGaps = append(b.claimedGaps, h)
}
