package clock

// Fill gives s the wall time that it lacks, where now knows the true one: both
// count from the same boot, so the time between them is known: CLOCK_BOOTTIME and
// the wall clock are disciplined alike and differ by what the latter was set
// (clock_gettime(2)). A stamp of another boot, or one that was true when it was made, stays as it is.
func Fill(s, now Stamp) Stamp {
	if s.Synced || !now.Synced || s.Boot == "" || s.Boot != now.Boot {
		return s
	}
	s.Wall, s.Synced = now.Wall.Add(s.Mono-now.Mono), true
	return s
}
