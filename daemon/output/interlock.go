package output

import (
	"fmt"
	"slices"
)

// InterlockError says that an output must not leave its safe level because another one
// is, or may be, away from its own.
type InterlockError struct {
	Output string // the output
	Other  string // the other one
	Known  bool   // whether the other's level is known
}

// Error names both.
func (e *InterlockError) Error() string {
	if !e.Known {
		return fmt.Sprintf("output %q is interlocked with %q, whose level is not known", e.Output, e.Other)
	}
	return fmt.Sprintf("output %q is interlocked with %q, which is not at its safe level", e.Output, e.Other)
}

// Of two interlocked outputs only one may be energised at a time. An output claims this,
// under one mutex for all and without a call into the kernel, before its line leaves the
// safe level. It gives the claim up when the line was read back at the safe level. So two
// concurrent orders cannot both act, a line that hangs or has an unknown level keeps its
// claim, and no output ever waits for the lock of another.

// connectInterlocks makes outputs peers if one names the other. An output that is being
// removed stays a peer until its line is released.
func (b *Bank) connectInterlocks(s *outputSet) {
	b.energisedMu.Lock()
	defer b.energisedMu.Unlock()
	for _, p := range s.all {
		p.peers = nil
	}
	for _, p := range s.all {
		for _, q := range s.all {
			if q != p && slices.Contains(p.bounds.Load().interlock, q.c.Name) {
				p.peers, q.peers = append(p.peers, q), append(q.peers, p)
			}
		}
	}
}

// claimEnergised claims to be energised, unless a peer may be.
func (b *Bank) claimEnergised(p *pin) error {
	b.energisedMu.Lock()
	defer b.energisedMu.Unlock()
	for _, q := range p.peers {
		if q.energised {
			return &InterlockError{p.c.Name, q.c.Name, q.state.Load().Err == nil}
		}
	}
	p.energised = true
	return nil
}

// setEnergised records whether an output may be away from its safe level.
func (b *Bank) setEnergised(p *pin, energised bool) {
	b.energisedMu.Lock()
	defer b.energisedMu.Unlock()
	p.energised = energised
}
