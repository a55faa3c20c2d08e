package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

func (s *Spool) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// fail takes note that the disk cannot be used, and when to try it again.
func (s *Spool) fail(now time.Time, err error) {
	s.disown()
	s.mu.Lock()
	was := s.down
	s.down = true
	poke(s.ready)
	s.mu.Unlock()
	s.w.backoff = min(max(2*s.w.backoff, leastRetry), mostRetry)
	s.w.retryAt = now.Add(s.w.backoff)
	s.o.Health.Raise(health.SpoolUnavailable, subject, err.Error())
	if !was {
		s.o.Log.Warn("spool cannot be written", "dir", s.o.Dir, "err", err)
	}
}

// disown cuts off what is in an active segment of what was given up from memory,
// and not told on disk: so that it is not found after a kill, behind what is given
// out from now on. What is behind the last sync goes along; memory has it.
func (s *Spool) disown() {
	for i := range s.logs {
		g := s.active[i]
		if g == nil {
			continue
		}
		s.mu.Lock()
		has := slices.ContainsFunc(s.lost, func(x kept) bool { return x.seg == g && x.id >= g.sure })
		s.mu.Unlock()
		if has {
			s.abandon(Class(i))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.halfGone {
		s.halfGone = false
		poke(s.ready)
	}
}

// recovered takes note that the disk works again.
func (s *Spool) recovered() {
	s.mu.Lock()
	was, hung := s.down, s.hung > 0
	s.down = false
	s.mu.Unlock()
	s.w.backoff = 0
	if !hung {
		s.o.Health.Clear(health.SpoolUnavailable, subject)
	}
	if was {
		s.o.Log.Info("spool can be written again", "dir", s.o.Dir)
	}
}

// repair brings the disk up to date after a failure, or for the first time.
func (s *Spool) repair() error {
	if !s.w.attached {
		if err := s.attach(); err != nil {
			return err
		}
	}
	if err := s.identify(); err != nil {
		return err
	}
	if err := s.catchUp(); err != nil {
		// What nothing needs may be what fills the disk. It goes unnoted, so a
		// crash before the next attempt takes it for damage.
		_ = s.removeAll(s.rubbish())
		return err
	}
	if !s.w.recorded || s.w.sights != s.sightCount() {
		if err := s.record(); err != nil {
			return err
		}
	}
	return s.moveJournals()
}

// moveJournals writes the journals into a directory that is not the one they were
// in.
func (s *Spool) moveJournals() error {
	if !s.w.anew {
		return nil
	}
	for _, j := range s.allJournals() {
		if err := j.PutBack(); err != nil {
			return err
		}
	}
	s.w.anew = false
	return nil
}

// save writes everything, also where the directory, or a file of it, turns out to
// be gone.
func (s *Spool) save() (err error) {
	for range classes + 1 { // the segment of each lane may be gone, one found out after the other
		if err = s.inspect(); err == nil {
			err = s.repair()
		}
		if err == nil || !s.missed() && !errors.Is(err, durable.ErrGone) {
			return err
		}
	}
	return err
}

// catchUp writes everything that is to be on disk.
func (s *Spool) catchUp() error {
	for _, f := range []func() error{
		s.seal, func() error { return s.commit(true) }, s.mend, s.keepRefused, s.rewriteNotes, s.sweep,
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// finish writes everything and takes nothing more.
func (s *Spool) finish() error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	if s.w.finished {
		return nil
	}
	s.w.finished = true
	err := s.save()
	for i := range s.logs {
		s.shut(Class(i))
	}
	if err == nil {
		err = s.rewriteNotes()
	}
	if err == nil {
		err = s.sweep()
	}
	if err == nil {
		err = durable.Replace(s.disk, stateName, state{run: s.run, stopped: true}.encode())
	}
	s.w.notes.close()
	s.noteBeside()
	if err != nil {
		s.endBeside()
		return fmt.Errorf("finish spool %q: %w", s.o.Dir, err)
	}
	return nil
}

// Close ends the spool and frees its directory. It is called when Run has
// returned; where Run was never called it writes everything first.
func (s *Spool) Close() error {
	err := s.finish()
	s.held.Store(false)
	for _, j := range s.allJournals() {
		j.Close()
	}
	if s.w.lock != nil {
		err = errors.Join(err, s.w.lock.Close())
		s.w.lock = nil
	}
	return err
}
