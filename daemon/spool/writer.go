package spool

import (
	"context"
	"errors"
	"io"
	"time"

	"fieldpost/daemon/durable"
)

const (
	settleDelay = time.Second // how long a record may wait for its ack before it is written, and an ack before it is recorded
	ageEvery    = time.Minute
	leastRetry  = time.Second
	mostRetry   = time.Minute
)

// writer is what only the goroutine of [Spool.Run] uses; before it Open, and
// after it Close.
type writer struct {
	lock       io.Closer // nil while the directory is not ours
	attached   bool      // the directory has been read
	recorded   bool      // the run file says that this run runs
	noted      bool      // the directory beside does
	diskless   []uint64  // the earlier runs of which that says so
	unsure     bool      // they may have given out what others had left in the directory
	sights     int       // as many as when it was written
	known      uint64    // the greatest run number found in the directory
	counted    bool      // and it can be counted on from
	id         string    // the directory's, for the next run; for this one it is in source
	identified uint64    // the run that the identity file has
	place      string    // of the lock file that it has
	files      [classes]durable.File
	newborn    [classes]bool // its name is not durable
	number     [classes]uint32
	credit     int64 // how many bytes may be written anew
	notes      scribe
	mend       []*segment // found damaged when the directory was read
	torn       []*segment // found with an end that may not be durable

	anew  bool // the directory is another than the journals were written to
	loads int  // how often something was found in one

	retryAt  time.Time
	backoff  time.Duration
	agedAt   time.Time
	toldFull int
	fullAt   time.Time
	began    bool
	finished bool
}

// Run writes until ctx ends; then it writes and syncs everything that is not
// acknowledged, marks the stop as a good one and takes nothing more. The error
// says what kept it from that; the next Open then reports an uncertain gap.
// Run is called once.
func (s *Spool) Run(ctx context.Context) error {
	if s.w.began {
		return errors.New("run spool: it has run already")
	}
	s.w.began = true
	reading, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.readBack(reading)
	}()
	defer func() {
		stop()
		<-ended
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.finish()
		case <-s.wake:
		case <-timer.C:
		}
		var wait time.Duration
		var some bool
		s.watched(func() { wait, some = s.step(time.Now()) })
		if some {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// step does what is due, and tells how long until something will be.
func (s *Spool) step(now time.Time) (wait time.Duration, some bool) {
	s.tellFull(now)
	var err error
	if s.isDown() {
		s.disown()
	}
	if !s.isDown() {
		err = s.work(now)
	} else if !now.Before(s.w.retryAt) {
		if err = s.repair(); err == nil {
			s.recovered()
			err = s.work(now)
		}
	}
	if err != nil {
		s.missed()
		s.fail(now, err)
	}
	s.tellFull(now)
	s.harmless()
	s.noteBeside()
	p := s.plan(now)
	next := p.next
	if p.write || p.sync || p.sight || p.acks || p.refused {
		next = now // it came while the disk worked
	}
	if s.isDown() {
		next = s.w.retryAt
	}
	if next.IsZero() {
		return 0, false
	}
	return max(next.Sub(now), 0), true
}

// plan is what is due, and when the next thing will be.
type plan struct {
	write, sync, sight, acks, refused bool
	next                              time.Time
}

// at marks when something is due, and reports whether that is now.
func (p *plan) at(now, t time.Time) bool {
	if !t.After(now) {
		return true
	}
	if p.next.IsZero() || t.Before(p.next) {
		p.next = t
	}
	return false
}

// delay is how long a record waits for its ack before it is written.
func (s *Spool) delay() time.Duration { return min(settleDelay, s.o.AtRisk/4) }

func (s *Spool) plan(now time.Time) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p plan
	s.survey()
	if t := s.since.dirty; !t.IsZero() {
		p.write = p.at(now, t.Add(s.delay()))
		p.sync = p.write && (s.syncNow || s.o.AtRisk == 0)
	}
	if t := s.since.unsynced; !t.IsZero() && p.at(now, t.Add(s.o.AtRisk-s.delay())) {
		p.sync = true
	}
	if t := s.since.sight; !t.IsZero() {
		p.sight = p.at(now, t.Add(s.delay()))
	}
	if t := s.since.acks; !t.IsZero() {
		p.acks = p.at(now, t.Add(settleDelay))
	}
	if len(s.refused) > 0 || len(s.doomed) > 0 || len(s.lost) > 0 {
		p.refused, p.sync = len(s.refused) > 0, true
	}
	if t := s.since.reread; !t.IsZero() && p.at(now, t.Add(settleDelay)) {
		s.since.reread = time.Time{}
		poke(s.ready)
	}
	if s.o.MaxAge > 0 {
		p.at(now, s.w.agedAt.Add(ageEvery))
	}
	if !s.w.fullAt.IsZero() {
		p.at(now, s.w.fullAt.Add(calm))
	}
	return p
}

// survey finds what has waited longest, without what was acknowledged
// meanwhile.
func (s *Spool) survey() {
	s.since.dirty, s.since.unsynced = time.Time{}, time.Time{}
	for _, l := range s.logs {
		dirty, unsynced := l.oldest()
		s.since.dirty = earlier(s.since.dirty, dirty)
		s.since.unsynced = earlier(s.since.unsynced, unsynced)
	}
}

// earlier gives the earlier of two times; the zero time stands for none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// work does what is due now, while the disk can be written.
func (s *Spool) work(now time.Time) error {
	if s.looks.Swap(false) {
		if err := s.inspect(); err != nil {
			return err
		}
	}
	if s.o.MaxAge > 0 && now.Sub(s.w.agedAt) >= ageEvery {
		s.w.agedAt = now
		if err := s.dropOld(); err != nil {
			return err
		}
	}
	p := s.plan(now)
	if p.sight {
		if err := s.noteSights(); err != nil {
			return err
		}
	}
	if p.write || p.sync {
		if err := s.commit(p.sync); err != nil {
			return err
		}
	}
	if p.refused {
		if err := s.keepRefused(); err != nil {
			return err
		}
	}
	if p.acks {
		if err := s.noteAcks(); err != nil {
			return err
		}
		return s.sweep()
	}
	return nil
}
