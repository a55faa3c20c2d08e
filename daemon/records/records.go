// Package records stores the messages of the daemon until the broker has them. It wraps the
// spool ([spool.Spool]), which stores bytes, and encodes and decodes records. The gaps that
// the spool reports become records too, of kind [message.Gap].
package records

import (
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/spool"
)

// Spool is a spool of records.
type Spool struct{ *spool.Spool }

// Item is a record that is to be sent.
type Item struct {
	ID   uint64         // identifies the item for Ack and Refuse; unique in this run
	Head message.Record // the record, but for the fields that are in body
	body []byte         // nil for a gap
}

// Record returns the record with its fields.
func (i Item) Record() message.Record {
	r := i.Head
	if i.body != nil {
		_, r.Fields, _ = message.DecodeBody(i.body) // it was checked
	}
	return r
}

// Message returns the record's message; see [message.Encode].
func (i Item) Message(thing string) []byte {
	if i.body == nil {
		return message.Encode(thing, i.Head)
	}
	return message.EncodeBody(thing, i.Head, i.body)
}

// Open opens the spool in a directory: see [spool.Open]. It sets
// [spool.Options.RefusedLine].
func Open(o spool.Options) (*Spool, error) {
	o.RefusedLine = refusedLine
	s, err := spool.Open(o)
	if err != nil {
		return nil, err
	}
	return &Spool{s}, nil
}

// Append stores a record. It does not wait for the disk. It copies the fields. Any
// goroutine.
//
// It fails if a field has a type that messages cannot have, is not finite or has the name
// of one of the message's own keys, if the record is larger than 128 KiB, or after the end
// of the spool ([spool.ErrClosed]).
func (s *Spool) Append(r message.Record) error {
	e, _, err := entryOf(make([]byte, 0, 128), r)
	if err != nil {
		return err
	}
	return s.Spool.Append(e)
}

// AppendKept stores a record like [Spool.Append], and closes kept when a crash cannot cost it
// any more: see [spool.Spool.AppendKept]. Any goroutine.
func (s *Spool) AppendKept(r message.Record) (kept <-chan struct{}, err error) {
	e, _, err := entryOf(make([]byte, 0, 128), r)
	if err != nil {
		return nil, err
	}
	return s.Spool.AppendKept(e)
}

// AppendAll stores records in their order at once: see [spool.Spool.AppendAll]. A record that
// Append would refuse is left out, and the others are stored; the error joins the reasons
// and names the sensors. Any goroutine.
func (s *Spool) AppendAll(rs []message.Record) error {
	entries := make([]spool.Entry, 0, len(rs))
	bodies := make([]byte, 0, 64*len(rs)) // of all entries, one after the other
	var errs []error
	for _, r := range rs {
		var e spool.Entry
		var err error
		if e, bodies, err = entryOf(bodies, r); err != nil {
			errs = append(errs, fmt.Errorf("%s of %q: %w", r.Kind, r.Sensor, err))
			continue
		}
		entries = append(entries, e)
	}
	return errors.Join(append(errs, s.Spool.AppendAll(entries))...)
}

// entryOf returns the entry of a record. It appends the body of the entry to b, and returns
// that too.
func entryOf(b []byte, r message.Record) (spool.Entry, []byte, error) {
	start := len(b)
	b, err := message.AppendBody(b, r)
	if err != nil {
		return spool.Entry{}, b, fmt.Errorf("append to spool: %w", err)
	}
	return spool.Entry{Class: classOf(r.Kind), Sensor: r.Sensor, Run: r.Run, Seq: r.Seq, Stamp: r.Stamp, Body: b[start:]}, b, nil
}

// classOf returns the class of the records of a kind.
func classOf(k message.Kind) spool.Class {
	switch k {
	case message.Reading:
		return spool.Samples
	case message.Edge:
		return spool.Edges
	}
	return spool.Events
}

// Next returns the next unsent record: see [spool.Spool.Next]. Any goroutine.
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

// More returns the next record of the same sensor and kind: see [spool.Spool.More]. Any
// goroutine.
func (s *Spool) More(id uint64) (Item, bool) {
	x, ok := s.Spool.More(id)
	if !ok {
		return Item{}, false
	}
	return s.item(x)
}

// item checks an item. It reports one that cannot be decoded to the spool, as damage.
func (s *Spool) item(x spool.Item) (Item, bool) {
	i, err := itemOf(x)
	if err != nil {
		s.Corrupt(x.ID)
		return Item{}, false
	}
	return i, true
}

func itemOf(x spool.Item) (Item, error) {
	from := message.Source(x.Source)
	if g := x.Gap; g != nil {
		return Item{x.ID, message.NewGap(x.Sensor, x.Run, x.Stamp, from, message.Loss(*g)), nil}, nil
	}
	kind, err := message.CheckBody(x.Body)
	return Item{x.ID, message.Record{Kind: kind, Sensor: x.Sensor, Run: x.Run, Seq: x.Seq, Stamp: x.Stamp, Source: from}, x.Body}, err
}

// refusedLine returns the line of refused.jsonl for an item that was refused.
func refusedLine(x spool.Item, reason string, at time.Time) ([]byte, error) {
	i, err := itemOf(x)
	r := i.Record()
	if err != nil { // the body cannot be stored, but what it belongs to can
		r = message.Record{Sensor: x.Sensor, Run: x.Run, Seq: x.Seq, Stamp: x.Stamp, Source: message.Source(x.Source)}
	}
	return message.Refused(reason, at, r)
}

// Source returns the source of what is appended in this run. Any goroutine.
func (s *Spool) Source() message.Source { return message.Source(s.Spool.Source()) }
