// Package journaltest has a journal's storage for tests, in memory.
package journaltest

import (
	"iter"
	"slices"
	"strings"
	"sync"

	"fieldpost/daemon/journal"
)

// Storage is a storage in memory that can only be rewritten as a whole. The zero value is
// empty and works. Any goroutine.
type Storage struct {
	mu      sync.Mutex
	entries [][]byte
	written int
	unread  error // Replay's
	full    error // Rewrite's
}

// New gives a storage that holds entries.
func New(entries ...string) *Storage {
	s := &Storage{}
	for _, e := range entries {
		s.entries = append(s.entries, []byte(e))
	}
	return s
}

// Fail has Replay and Rewrite give errors from now on; nil is none.
func (s *Storage) Fail(replay, rewrite error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread, s.full = replay, rewrite
}

// Text gives the entries, one a line.
func (s *Storage) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, e := range s.entries {
		lines = append(lines, string(e))
	}
	return strings.Join(lines, "\n")
}

// Written counts the calls of Rewrite that succeeded.
func (s *Storage) Written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// Replay implements [journal.Storage].
func (s *Storage) Replay(take func([]byte)) (journal.Damage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unread != nil {
		return journal.Damage{}, s.unread
	}
	for _, e := range s.entries {
		take(e)
	}
	return journal.Damage{}, nil
}

// Rewrite implements [journal.Storage].
func (s *Storage) Rewrite(entries iter.Seq[[]byte]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	s.entries = slices.Collect(entries)
	s.written++
	return nil
}

// Append implements [journal.Storage]; it panics.
func (s *Storage) Append(...[]byte) error { panic("this storage can only be rewritten as a whole") }

// Size implements [journal.Storage].
func (s *Storage) Size() int64 { return 0 }
