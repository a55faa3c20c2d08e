package spool

// LogStats counts one log.
type LogStats struct {
	Pending  int   // records not yet acknowledged
	Segments int   // files
	Bytes    int64 // in these files
}

// Stats is the spool in numbers. The counts are since the start.
type Stats struct {
	Run      uint64 // see [Spool.RunNumber]
	Disk     bool   // the disk can be written, as far as is known
	Events   LogStats
	Samples  LogStats // readings
	Edges    LogStats
	Bytes    int64  // on disk, without files set aside
	Memory   int64  // of records in memory
	Appended uint64 // records taken in
	Acked    uint64 // records acknowledged
	Dropped  uint64 // records given up for want of room or for their age
	Refused  uint64 // records set aside
	Damaged  uint64 // files found damaged
}

// Stats gives the spool in numbers. Any goroutine.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Run, st.Disk = s.run, !s.down && s.hung == 0
	st.Bytes = s.used()
	for i, out := range [classes]*LogStats{&st.Events, &st.Samples, &st.Edges} {
		l := s.logs[i]
		out.Pending, out.Segments = l.pending, len(l.segs)
		for _, g := range l.segs {
			out.Bytes += g.size
		}
		st.Memory += l.bytes
	}
	return st
}

// Pending is how many records are not yet acknowledged.
func (st Stats) Pending() int { return st.Events.Pending + st.Samples.Pending + st.Edges.Pending }

// used is the disk in use, without files set aside.
func (s *Spool) used() int64 {
	n := s.noted
	for _, l := range s.logs {
		for _, g := range l.segs {
			n += g.size
		}
	}
	for _, g := range s.doomed {
		n += g.size
	}
	for _, g := range s.garbage {
		n += g.size
	}
	return n
}
