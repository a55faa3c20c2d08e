package spool

import "time"

// What the ack file says is encoded here from what the store knows. The methods that
// take the store are called with its lock held.

// addNewLocked adds the gaps that are not recorded yet, and in the same frame what they
// cover as done: so that nothing comes after a crash that a gap reported as missing.
func (f *ackEncoder) addNewLocked(st *store) {
	f.together(func() {
		for _, id := range st.gaps.unrecorded {
			if x := st.gaps.owed[id]; x != nil {
				f.addGap(st.gaps.key(x), x.form)
				x.recorded = true
			}
		}
		st.gaps.unrecorded = nil
		f.addGivenUpLocked(st)
	})
}

// addGivenUpLocked adds what is dropped.
func (f *ackEncoder) addGivenUpLocked(st *store) {
	for _, x := range st.losses.entries {
		f.addDone(logRun{x.class, x.seg.run}, span{x.id - x.seg.off, x.id - x.seg.off + 1})
	}
	for _, l := range st.logs {
		for _, x := range l.maybeWritten.spans {
			f.addDone(logRun{l.class, st.run}, x)
		}
	}
	for _, g := range st.losses.segments {
		f.addRemoved(g)
	}
	if d := st.losses.drop; d != nil && d.part {
		for _, id := range d.ids {
			f.addDone(logRun{d.seg.class, d.seg.run}, span{id - d.seg.off, id - d.seg.off + 1})
		}
	}
}

// addAcksLocked adds what was acknowledged since the last time.
func (f *ackEncoder) addAcksLocked(st *store) {
	for _, l := range st.logs {
		for _, g := range l.segs {
			for _, x := range l.unrecorded.within(g.lo, g.hi) {
				f.addDone(logRun{l.class, g.run}, span{x.lo - g.off, x.hi - g.off})
			}
		}
		l.unrecorded = ids{}
	}
	for _, k := range st.gaps.settled {
		f.addDone(logRun{Events, k.run}, span{k.seq, k.seq + 1})
	}
	st.gaps.settled = nil
	st.due.acks = time.Time{}
}

// addAllLocked adds everything that the next run must know.
func (f *ackEncoder) addAllLocked(st *store) {
	for _, id := range st.gaps.sorted() {
		x := st.gaps.owed[id]
		f.addGap(st.gaps.key(x), x.form)
		x.recorded = true
	}
	st.gaps.unrecorded, st.gaps.settled = nil, nil
	f.addGivenUpLocked(st)
	for _, x := range st.sources.only(st.mentionedRunsLocked()) {
		f.addSource(x)
	}
	for _, g := range st.garbage {
		f.addRemoved(g)
	}
	for _, l := range st.logs {
		for _, g := range l.segs {
			f.addWritten(g)
		}
	}
	f.addGivenLocked(st)
	f.addEarlierSensorsLocked(st)
	f.addSensorsLocked(st)
	f.addDoneLocked(st, maxAckDone)
}

// addDoneLocked adds which entries of the present segments are done, until the file has
// room bytes. What does not fit is sent again after a restart.
func (f *ackEncoder) addDoneLocked(st *store, room int) {
	for _, l := range st.logs {
		keep := st.heldLocked(l.class)
		for _, g := range l.segs {
			if len(f.b) > room {
				break
			}
			for _, x := range l.done.without(g.lo, g.hi, &keep) {
				f.addDone(logRun{l.class, g.run}, span{x.lo - g.off, x.hi - g.off})
			}
		}
		l.unrecorded = ids{}
	}
	st.due.acks = time.Time{}
}

// addGivenLocked adds, for each flow and run that still has entries, how far they were
// sent. Next returns them in order, so one number is enough; and it returns nothing any
// more when these numbers are written for the last time.
func (f *ackEncoder) addGivenLocked(st *store) {
	for _, l := range st.logs {
		far := map[origin]uint64{}
		for _, g := range l.segs {
			l.flowsIn(g, func(x *flow) {
				o, seq := origin{x.sensor, g.run}, uint64(0)
				if until := min(g.hi, x.givenUntil(g.lo)); until > g.lo {
					seq = until - g.off
				}
				far[o] = max(far[o], seq)
			})
		}
		for _, o := range sortedOrigins(far) {
			f.addGiven(logRun{l.class, o.run}, o.sensor, far[o])
		}
	}
}

// addEarlierSensorsLocked adds the sensors of earlier runs that still have entries, so
// that damage is reported even if it destroys all entries of a sensor.
func (f *ackEncoder) addEarlierSensorsLocked(st *store) {
	for _, l := range st.logs {
		far := map[origin]uint64{}
		for _, g := range l.segs {
			for _, x := range g.sums {
				if x.run != st.run && x.hi > 0 {
					o := origin{x.sensor, x.run}
					far[o] = max(far[o], x.hi)
				}
			}
		}
		for _, o := range sortedOrigins(far) {
			f.addSafe(logRun{l.class, o.run}, o.sensor, far[o])
		}
	}
}

// addSensorsLocked adds up to which count each sensor is safe: acknowledged, durable, or
// covered by a durable gap. It also adds how far the files are durable, to distinguish
// damage at the end of a file from an end that was never written.
func (f *ackEncoder) addSensorsLocked(st *store) {
	st.due.sensors, st.sensors.recorded = time.Time{}, st.sensors.count
	unsafe := map[string]uint64{}
	for _, l := range st.logs {
		if n := len(l.segs); n > 0 && l.segs[n-1].run == st.run {
			f.addWritten(l.segs[n-1])
		}
		l.eachUnsynced(func(e *memEntry) {
			if e.done || e.run != st.run || e.seq == 0 {
				return
			}
			if lo, known := unsafe[e.sensor]; !known || e.seq < lo {
				unsafe[e.sensor] = e.seq
			}
		})
	}
	for sensor, x := range st.sensors.seen {
		safe := x.last
		if lo, known := unsafe[sensor]; known {
			safe = lo - 1
		}
		for i, has := range x.in {
			if has {
				f.addSafe(logRun{Class(i), st.run}, sensor, safe)
			}
		}
		if x.in == [classes]bool{} {
			f.addSensor(st.run, sensor)
		}
	}
}

// recordGaps durably records the gaps that are not recorded yet.
func (w *writer) recordGaps() error {
	w.st.mu.Lock()
	n := len(w.st.gaps.unrecorded)
	w.st.mu.Unlock()
	if n == 0 {
		return nil
	}
	return w.appendAcks(func(*ackEncoder) {}, true)
}

// recordAcks records what was acknowledged since the last time.
func (w *writer) recordAcks() error {
	if w.acks.hasGrown() {
		return w.rewriteAcks()
	}
	return w.appendAcks(func(f *ackEncoder) { f.addAcksLocked(w.st) }, false)
}

// recordSensors durably records which sensors have had entries in which logs, if that
// has changed. It runs before the first of these entries is written: an entry on disk
// must not suggest that the sensor had none in another log.
func (w *writer) recordSensors() error {
	if w.st.sensorCount() == w.dir.sensorsRecorded {
		return nil
	}
	if err := w.appendAcks(func(f *ackEncoder) { f.addSensorsLocked(w.st) }, true); err != nil || !w.dir.recorded {
		return err
	}
	return w.dir.recordRun()
}

// appendAcks appends the gaps that are not recorded yet and what fillLocked adds. If the
// file is not open, it rewrites all of it.
func (w *writer) appendAcks(fillLocked func(*ackEncoder), sync bool) error {
	if !w.acks.isOpen() {
		return w.rewriteAcks()
	}
	err := w.acks.append(func(f *ackEncoder) {
		w.st.mu.Lock()
		defer w.st.mu.Unlock()
		f.addNewLocked(w.st)
		fillLocked(f)
	}, sync)
	w.updateAckBytes()
	return err
}

// rewriteAcks durably rewrites the ack file with everything that the next run must know.
func (w *writer) rewriteAcks() error {
	err := w.acks.rewrite(func(f *ackEncoder) {
		w.st.mu.Lock()
		defer w.st.mu.Unlock()
		f.addAllLocked(w.st)
	})
	w.updateAckBytes()
	return err
}

func (w *writer) updateAckBytes() {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	w.st.ackBytes = w.acks.size
}

func (st *store) sensorCount() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sensors.count
}
