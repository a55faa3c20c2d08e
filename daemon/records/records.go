// Package records keeps the daemon's messages until the broker has them: it is the
// spool ([spool.Spool]), with records in place of bytes. What the spool tells of
// what is missing comes out of it as records too, of kind [message.Gap].
package records

import (
	"fmt"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/spool"
)

// Spool is a spool of records.
type Spool struct{ *spool.Spool }

// Item is a record on its way out.
type Item struct {
	ID     uint64 // names the item for Ack and Refuse; unique in this run
	Record message.Record
}

// Open opens the spool of a directory: see [spool.Open]. It sets
// [spool.Options.RefusedLine].
func Open(o spool.Options) (*Spool, error) {
	o.RefusedLine = refusedLine
	s, err := spool.Open(o)
	if err != nil {
		return nil, err
	}
	return &Spool{s}, nil
}

// Append takes a record in. It does not wait for the disk. The record's fields
// are copied. Any goroutine.
//
// The error says what is wrong with the record (a value of another type, one
// that is not finite, a field named as one of the message's own, more than
// 128 KiB), or is [spool.ErrClosed].
func (s *Spool) Append(r message.Record) error {
	body, err := message.AppendBody(make([]byte, 0, 128), r)
	if err != nil {
		return fmt.Errorf("append to spool: %w", err)
	}
	return s.Spool.Append(spool.Entry{Class: classOf(r.Kind), Sensor: r.Sensor, Run: r.Run, Seq: r.Seq, Stamp: r.Stamp, Body: body})
}

// classOf says which log records of a kind are kept in.
func classOf(k message.Kind) spool.Class {
	switch k {
	case message.Reading:
		return spool.Samples
	case message.Edge:
		return spool.Edges
	}
	return spool.Events
}

// Next is [spool.Spool.Next]. Any goroutine.
func (s *Spool) Next() (Item, bool) {
	for {
		x, ok := s.Spool.Next()
		if !ok {
			return Item{}, false
		}
		if item, ok := s.item(x); ok {
			return item, true
		}
	}
}

// More is [spool.Spool.More]. Any goroutine.
func (s *Spool) More(id uint64) (Item, bool) {
	x, ok := s.Spool.More(id)
	if !ok {
		return Item{}, false
	}
	return s.item(x)
}

// item decodes an item. One that cannot be read is damage.
func (s *Spool) item(x spool.Item) (Item, bool) {
	r, err := record(x)
	if err != nil {
		s.Corrupt(x.ID)
		return Item{}, false
	}
	return Item{x.ID, r}, true
}

// record gives the record that an item stands for.
func record(x spool.Item) (message.Record, error) {
	from := message.Source(x.Source)
	if g := x.Gap; g != nil {
		return message.NewGap(x.Sensor, x.Run, x.Stamp, from, message.Loss(*g)), nil
	}
	kind, fields, err := message.DecodeBody(x.Body)
	return message.Record{Kind: kind, Sensor: x.Sensor, Run: x.Run, Seq: x.Seq, Stamp: x.Stamp, Fields: fields, Source: from}, err
}

// refusedLine is the line of refused.jsonl for what was refused.
func refusedLine(x spool.Item, reason string, at time.Time) ([]byte, error) {
	r, err := record(x)
	if err != nil { // what it says cannot be kept; what it was can
		r = message.Record{Sensor: x.Sensor, Run: x.Run, Seq: x.Seq, Stamp: x.Stamp, Source: message.Source(x.Source)}
	}
	return message.Refused(reason, at, r)
}

// Source is who takes what is appended in this run. Any goroutine.
func (s *Spool) Source() message.Source { return message.Source(s.Spool.Source()) }
