package clock

// Fill returns s with its true wall time, if now has one and is of the same boot. The time
// between the two is known: CLOCK_BOOTTIME and the wall clock are slewed alike and differ
// only by the steps of the wall clock (clock_gettime(2)). A stamp of another boot, or one
// that was already synchronised, is returned unchanged.
func Fill(s, now Stamp) Stamp {
	if s.Synced || !now.Synced || s.Boot == "" || s.Boot != now.Boot {
		return s
	}
	s.Wall, s.Synced = now.Wall.Add(s.Mono-now.Mono), true
	return s
}
