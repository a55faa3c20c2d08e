package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
)

// The run file says which run was the latest, and whether it still runs or has stopped in
// order. For a running one it names the sensors and the logs in which they have had entries.
// The ack file has these too, so a crash can be reported for each sensor even if one of the
// two files is lost. The file ends with a checksum.
//
//	fieldpost spool 1 run 7 running
//	sensor "air" samples
//	sensor "door" samples edges
//	sensor "soil"
//	sum 1c291ca3
//
// In the runtime directory such a file represents a run that has no disk. A line before the
// first sensor says who that run is: took "k7m2qx" "greenhouse".
const runName = "run"

// maxRunFile bounds what is read of the file.
const maxRunFile = 1 << 20

// runFile is the decoded content of the file.
type runFile struct {
	run     uint64
	stopped bool                     // it stopped in order, with everything written
	sensors map[string][classes]bool // the sensors of a run that has not stopped
	took    Source                   // the source of a run that has no disk
}

var errRunFile = errors.New("run file is damaged")

func (s runFile) encode() []byte {
	word := "running"
	if s.stopped {
		word = "stopped"
	}
	b := fmt.Appendf(nil, "fieldpost spool 1 run %d %s\n", s.run, word)
	if s.took != (Source{}) {
		b = fmt.Appendf(b, "took %q %q\n", s.took.Spool, s.took.Thing)
	}
	for _, sensor := range slices.Sorted(maps.Keys(s.sensors)) {
		b = fmt.Appendf(b, "sensor %q", sensor)
		for i, has := range s.sensors[sensor] {
			if has {
				b = append(append(b, ' '), classNames[i]...)
			}
		}
		b = append(b, '\n')
	}
	return fmt.Appendf(b, "sum %08x\n", durable.Checksum(b))
}

func decodeRunFile(b []byte) (runFile, error) {
	lines := strings.Split(string(b), "\n")
	var s runFile
	var word string
	if _, err := fmt.Sscanf(lines[0], "fieldpost spool 1 run %d %s", &s.run, &word); err != nil || len(lines) < 3 {
		return runFile{}, errRunFile
	}
	s.stopped, s.sensors = word == "stopped", map[string][classes]bool{}
	for _, line := range lines[1 : len(lines)-2] {
		if n, _ := fmt.Sscanf(line, "took %q %q", &s.took.Spool, &s.took.Thing); n == 2 {
			continue
		}
		var sensor string
		if _, err := fmt.Sscanf(line, "sensor %q", &sensor); err != nil {
			return runFile{}, errRunFile
		}
		s.sensors[sensor] = classesOf(line)
	}
	if string(s.encode()) != string(b) { // this includes the checksum
		return runFile{}, errRunFile
	}
	return s, nil
}

// classesOf returns the logs at the end of a line.
func classesOf(line string) (in [classes]bool) {
	for i := classes - 1; i >= 0; i-- {
		line, in[i] = strings.CutSuffix(line, " "+classNames[i])
	}
	return in
}

// runFileOf decodes what was read of the file. Without a file it returns a run that has stopped
// in order.
func runFileOf(x smallFile) (runFile, error) {
	switch {
	case x.err != nil:
		return runFile{}, fmt.Errorf("%w: %w", errRunFile, x.err)
	case x.data == nil:
		return runFile{stopped: true}, nil
	}
	return decodeRunFile(x.data)
}

// epoch is the start of 2026, the earliest time for the start of a run.
const epoch = 1767225600

// makeRunNumber makes a run number if it cannot be counted. It is greater than known. It
// consists of the wall clock's seconds since 1970, not before 2026, times 2^20 (or of known,
// if that is more because the clock was once ahead), and of random bits, so that two starts
// that know the same get different numbers, except once in a million times. It stays below
// 2^53, the greatest integer that every JSON reader preserves (RFC 8259, section 6).
func makeRunNumber(now clock.Stamp, known uint64) uint64 {
	secs := uint64(max(now.Wall.Unix(), epoch)) & (1<<32 - 1)
	return max(secs<<20, known+1) + rand.Uint64N(1<<20)
}

// recordRun durably writes the run file of a running run.
func (d *directory) recordRun() error {
	d.st.mu.Lock()
	n := d.st.sensors.recorded // a sensor that came since is recorded the next time
	x := runFile{run: d.st.run, sensors: d.st.sensors.logs()}
	d.st.mu.Unlock()
	if err := durable.Replace(d.disk, runName, x.encode()); err != nil {
		return err
	}
	d.recorded, d.sensorsRecorded = true, n
	return nil
}

// recordStop durably writes the run file of a run that has stopped in order.
func (d *directory) recordStop() error {
	return durable.Replace(d.disk, runName, runFile{run: d.st.run, stopped: true}.encode())
}

// runtimeDir is the runtime directory, which survives the process. A run without a disk is
// recorded here, so that the next run reports it if it is killed. Each run has its own file,
// with the content that the run file would have. It is removed when the run gets a disk, or
// when the gaps about its crash are on disk or with the broker. Only the goroutine of the
// writer uses it.
type runtimeDir struct {
	dir      disk // nil if there is none
	st       *store
	log      *slog.Logger
	recorded bool     // this run is recorded here
	sensors  int      // in so many logs sensors were seen then
	diskless []uint64 // earlier runs that are recorded here
	unsure   bool     // there were earlier ones, which may have sent entries that others had left in the spool
}

const runtimePrefix = "spool-run-"

// maxDiskless bounds the records of earlier runs, because the runtime directory is in memory
// and also has the crash record of the outputs. A daemon that crashes every minute, with a dead
// card and without a broker, makes a thousand in a day.
const maxDiskless = 256

func runtimeName(run uint64) string { return fmt.Sprint(runtimePrefix, run) }

// recall adds gaps for the runs that ended without ever having a disk. It returns the greatest
// number of these runs. It removes files that cannot be decoded.
func (r *runtimeDir) recall() (greatest uint64) {
	if r.dir == nil {
		return 0
	}
	names, err := r.dir.List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("cannot look for earlier runs without a disk", "err", err)
	}
	t := newTally()
	for _, name := range names {
		if !strings.HasPrefix(name, runtimePrefix) {
			continue
		}
		b, err := r.dir.Read(name, maxRunFile)
		if err != nil {
			continue
		}
		x, err := decodeRunFile(b)
		if err != nil || name != runtimeName(x.run) {
			_ = r.dir.Remove(name) // it was cut short by a crash
			continue
		}
		greatest = max(greatest, x.run)
		r.diskless = append(r.diskless, x.run)
		if x.took != (Source{}) {
			r.st.sources = append(r.st.sources, runSource{x.run, x.run, x.took})
		}
		for _, sensor := range slices.Sorted(maps.Keys(x.sensors)) {
			t.addLoss(origin{sensor, x.run}, loss{lo: 1, open: true, uncertain: true})
		}
	}
	r.unsure = len(r.diskless) > 0
	r.removeExcess()
	r.st.mu.Lock()
	defer r.st.mu.Unlock()
	r.st.appendGapsLocked(t, reasonCrash)
	return greatest
}

// removeExcess removes the records of the oldest runs if there are too many. This run has gaps
// for them; if it is killed too before it has given these, nobody gives them.
func (r *runtimeDir) removeExcess() {
	slices.Sort(r.diskless)
	n := len(r.diskless) - maxDiskless
	if n <= 0 {
		return
	}
	r.log.Warn("too many runs without a disk have ended before they could report their losses; no longer keeping records of the oldest", "runs", n, "last", r.diskless[n-1])
	for _, run := range r.diskless[:n] {
		_ = r.dir.Remove(runtimeName(run)) // the next run tries again
	}
	r.diskless = slices.Delete(r.diskless, 0, n)
}

// update records this run if it has no disk yet, and removes records that are no longer
// needed.
func (r *runtimeDir) update(hasDisk bool) {
	if r.dir == nil {
		return
	}
	if hasDisk == r.recorded || r.recorded && r.sensors != r.st.sensorCount() {
		r.record(!hasDisk)
	}
	if len(r.diskless) > 0 {
		r.forgetReported()
	}
}

// record records this run, or removes its record.
func (r *runtimeDir) record(recorded bool) {
	name := runtimeName(r.st.run)
	if !recorded {
		r.recorded = r.dir.Remove(name) != nil
		return
	}
	r.st.mu.Lock()
	x := runFile{run: r.st.run, sensors: r.st.sensors.logs(), took: r.st.source}
	r.sensors = r.st.sensors.count
	r.st.mu.Unlock()
	r.recorded = durable.Replace(r.dir, name, x.encode()) == nil
}

// forgetReported removes the records of runs whose gaps are on disk or with the broker.
func (r *runtimeDir) forgetReported() {
	unreported := map[uint64]bool{}
	r.st.mu.Lock()
	r.st.gaps.runs(unreported, func(x *owedGap) bool { return r.st.down || !x.recorded })
	r.st.mu.Unlock()
	r.diskless = slices.DeleteFunc(r.diskless, func(run uint64) bool {
		return !unreported[run] && r.dir.Remove(runtimeName(run)) == nil
	})
}

// removeRecord removes the record of a run that ends without a disk, if it owes nothing. It keeps the
// record if files of earlier runs remain that this run sent: the next run must know that.
func (r *runtimeDir) removeRecord() {
	if r.dir == nil || !r.recorded {
		return
	}
	r.st.mu.Lock()
	owes := len(r.st.garbage) > 0
	for _, l := range r.st.logs {
		owes = owes || l.pending > 0
	}
	r.st.mu.Unlock()
	if !owes {
		r.record(false)
	}
}
