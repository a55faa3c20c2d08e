package spool

import (
	"errors"
	"slices"

	"fieldpost/daemon/journal"
)

// errNotHeld is a journal's reason while its spool does not have the
// directory.
var errNotHeld = errors.New("the spool's directory cannot be used")

// Journal gives the file of a journal's entries in the spool's directory. While the
// spool cannot use its directory, nor can the journal; it can when the spool can.
// Where the file, or the directory, is removed or replaced, the spool puts it back
// as it was.
func (s *Spool) Journal(name string) *journal.File {
	j := journal.NewFile(s.disk, name, func() error {
		if !s.held.Load() {
			return errNotHeld
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journals = append(s.journals, j)
	return j
}

func (s *Spool) allJournals() []*journal.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journals)
}
