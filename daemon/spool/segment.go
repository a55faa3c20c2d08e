package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
)

// A segment file is a header and then frames, all numbers little-endian.
//
//	header  magic "FPSPOOL1", class u8, 3 zero bytes, number u32, run u64, crc32c u32 of all before
//	frame   crc32c u32 of all that follows in the frame, len u32, seq u64, payload of len bytes
//
// The payload of a frame is the form of an entry. In a file seq increases from frame to
// frame, not always by one: an entry that was acknowledged before it was written has a seq
// too. A run and a seq identify an entry of a log for ever.
const (
	magic       = "FPSPOOL1"
	headerSize  = 28
	segmentSize = 256 << 10
	// maxFile bounds what is read of a file. No segment is larger.
	maxFile = segmentSize + durable.FrameSize + durable.MaxPayload
)

const segmentExt = ".seg"

// summary is what a segment contains of one sensor in one run. Events have one only if they
// have a seq.
type summary struct {
	sensor string
	run    uint64
	lo, hi uint64 // the lowest and the highest seq; 0 if none has one
	bytes  int64  // bytes of the frames
}

// segment is a file with entries of one log. The lock of the store guards it once it is in
// the log.
type segment struct {
	class  Class
	run    uint64
	number uint32
	off    uint64 // an entry's id is off plus its frame's seq
	lo, hi uint64 // the range of its ids, without hi; lo == hi while it is empty

	size        int64  // bytes written
	synced      int64  // bytes known to be on disk
	syncedUntil uint64 // after the last id known to be on disk; 0 if none is
	live        int    // entries that are not done
	frames      int    // entries in the file, done or not
	sums        []summary
	oldest      clock.Stamp // stamp of its first entry
	newest      clock.Stamp // stamp of its last entry

	missing    bool // the file should exist and does not
	damaged    bool // set aside instead of removed when it is no longer needed
	corrupt    ids  // entries that cannot be decoded although their frames are intact
	readErrors int  // how often reading it has failed in a row
	noRewrite  bool // its file could not be read, so it is not rewritten: it stays, or goes whole
	stuck      bool // nothing needs it, but its file cannot be removed
}

// add records that the segment contains an entry of a sensor, with a frame of that many
// bytes.
func (g *segment) add(sensor string, run, seq uint64, bytes int64) {
	g.frames++
	if seq == 0 && g.class == Events {
		return
	}
	for i := range g.sums {
		if s := &g.sums[i]; s.run == run && s.sensor == sensor {
			s.bytes += bytes
			if seq > 0 {
				s.lo, s.hi = min(cmp.Or(s.lo, seq), seq), max(s.hi, seq)
			}
			return
		}
	}
	g.sums = append(g.sums, summary{sensor, run, seq, seq, bytes})
}

// setStamps records when the first and the last entry happened. It uses first only if the
// segment is empty.
func (g *segment) setStamps(first, last []byte) {
	if at, ok := stampOf(first); ok && g.size == 0 {
		g.oldest = at
	}
	if at, ok := stampOf(last); ok {
		g.newest = at
	}
}

// sensors returns the names of the flows that have entries in the segment.
func (g *segment) sensors() (out []string) {
	if g.class == Events {
		return []string{""}
	}
	for _, x := range g.sums {
		if !slices.Contains(out, x.sensor) {
			out = append(out, x.sensor)
		}
	}
	return out
}

// holds reports whether the segment has entries of a flow.
func (g *segment) holds(f *flow) bool {
	if g.class == Events {
		return true
	}
	for _, x := range g.sums {
		if x.sensor == f.sensor {
			return true
		}
	}
	return false
}

// file returns the name of the file: samples-7-3.seg is the third file of the samples of run
// 7.
func (g *segment) file() string {
	return fmt.Sprintf("%s-%d-%d%s", classNames[g.class], g.run, g.number, segmentExt)
}

// parseSegment parses the name of a segment file.
func parseSegment(name string) (*segment, bool) {
	body, ok := strings.CutSuffix(name, segmentExt)
	parts := strings.Split(body, "-")
	if !ok || len(parts) != 3 {
		return nil, false
	}
	run, err1 := strconv.ParseUint(parts[1], 10, 64)
	number, err2 := strconv.ParseUint(parts[2], 10, 32)
	if err1 != nil || err2 != nil {
		return nil, false
	}
	for c, class := range classNames {
		if g := (&segment{class: Class(c), run: run, number: uint32(number)}); class == parts[0] && g.file() == name {
			return g, true
		}
	}
	return nil, false
}

// compareSegments orders the segments of a log in the order in which they were written.
func compareSegments(a, b *segment) int {
	return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.number, b.number))
}

func (g *segment) header() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	b = append(b, byte(g.class), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, g.number)
	b = binary.LittleEndian.AppendUint64(b, g.run)
	return binary.LittleEndian.AppendUint32(b, durable.Checksum(b))
}

// scan returns a scanner at the first frame of a segment file. It returns false if the header
// does not match the name of the file.
func (g *segment) scan(data []byte) (*durable.Scanner, bool) {
	ok := len(data) >= headerSize && string(data[:headerSize]) == string(g.header())
	return durable.Scan(data, headerSize), ok
}

// isAnother reports whether data has the intact header of another segment.
func isAnother(data []byte) bool {
	if len(data) < headerSize {
		return false
	}
	g := segment{
		class:  Class(data[8]),
		number: binary.LittleEndian.Uint32(data[12:]),
		run:    binary.LittleEndian.Uint64(data[16:]),
	}
	return string(g.header()) == string(data[:headerSize])
}

// readSegment reads the file of a segment.
func readSegment(d disk, g *segment, size int64) ([]byte, error) {
	return d.Read(g.file(), int(min(size, maxFile)))
}

func frameLen(e *memEntry) int64 { return durable.FrameLen(e.form) }

// writing is an entry that is being written. It keeps the form, because the entry loses its
// own if the ack comes meanwhile.
type writing struct {
	e    *memEntry
	form []byte
}

// segmentWriter writes the segments of one log. Only the goroutine of the writer uses it.
type segmentWriter struct {
	disk    disk
	st      *store
	log     *log
	file    durable.File // the file of the active segment; nil if there is none
	newborn bool         // the file's name is not durable
	number  uint32       // of the latest segment
}

// isFull reports whether an entry must go to a new segment.
func (w *segmentWriter) isFull(next writing) bool {
	g := w.log.active
	return g != nil && (g.size+durable.FrameLen(next.form) > segmentSize || next.e.id > g.hi+durable.MaxSkip/2)
}

// append writes as much of a batch as fits into the active segment, at least one entry. It
// creates the segment if there is none. It returns how many entries and bytes it wrote.
func (w *segmentWriter) append(batch []writing) (n int, size int64, err error) {
	if w.log.active == nil {
		if err := w.create(batch[0].e.id); err != nil {
			return 0, 0, err
		}
	}
	g := w.log.active
	var b []byte
	if g.size == 0 {
		b = g.header()
	}
	for _, x := range batch {
		if n > 0 && (g.size+int64(len(b))+durable.FrameLen(x.form) > segmentSize || x.e.id > batch[n-1].e.id+durable.MaxSkip/2) {
			break // seqs must increase; they do, unless an earlier run's entry had to be rewritten
		}
		b = durable.AppendFrame(b, x.e.id-g.off, x.form)
		n++
	}
	if _, err := w.file.Write(b); err != nil {
		return 0, 0, &writeError{g.file(), err}
	}
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	for _, x := range batch[:n] {
		w.markWrittenLocked(g, x)
	}
	g.setStamps(batch[0].form, batch[n-1].form)
	g.size += int64(len(b))
	return n, int64(len(b)), nil
}

// writeError is the error of a write to a segment.
type writeError struct {
	file string
	err  error
}

func (e *writeError) Error() string { return fmt.Sprintf("write segment %q: %v", e.file, e.err) }
func (e *writeError) Unwrap() error { return e.err }

// create creates the next segment of the log. It will start with id.
func (w *segmentWriter) create(id uint64) error {
	w.number++
	g := &segment{class: w.log.class, run: w.st.run, number: w.number, lo: id, hi: id}
	f, err := w.disk.Create(g.file())
	if err != nil {
		return fmt.Errorf("create segment %q: %w", g.file(), err)
	}
	w.file, w.newborn = f, true
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	w.log.active = g
	w.log.segs = append(w.log.segs, g)
	return nil
}

// markWrittenLocked records that an entry is in a segment.
func (w *segmentWriter) markWrittenLocked(g *segment, x writing) {
	x.e.seg = g
	g.hi = x.e.id + 1
	h, _ := peek(x.form)
	g.add(x.e.sensor, h.run, h.seq, durable.FrameLen(x.form))
	if x.e.done && !x.e.lost { // it was acknowledged while it was being written
		w.log.unrecorded.add(x.e.id, x.e.id+1)
		return
	}
	g.live++
	if x.e.lost { // or dropped
		w.st.losses.entries = append(w.st.losses.entries, heldEntry{g.class, x.e.id, g})
	}
}

// sync makes the active segment durable. After an error the caller must not write to the file
// any more.
func (w *segmentWriter) sync() error {
	var err error
	if w.newborn {
		if err = w.file.Sync(); err == nil {
			err = w.disk.Sync()
		}
	} else {
		err = w.file.Datasync()
	}
	if err == nil {
		err = w.file.There()
	}
	if err != nil {
		return err
	}
	w.newborn = false
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	g := w.log.active
	g.synced, g.syncedUntil = g.size, g.hi
	w.log.markSynced(g)
	if w.log.bytes > maxCached {
		w.log.evict(maxCached / 2)
	}
	if w.st.o.AtRisk == 0 {
		w.st.ready.Set()
	}
	return nil
}

// owesSync reports whether the active segment has entries that must be synced.
func (w *segmentWriter) owesSync() bool {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	return w.log.active != nil && w.log.owesUnsynced()
}

// closeFile closes the file of the active segment, if it is open.
func (w *segmentWriter) closeFile() {
	if w.file != nil {
		_ = w.file.Close() // everything that matters is synced, or the file is not trusted
		w.file = nil
	}
}

// close ends the active segment as it is.
func (w *segmentWriter) close() {
	g := w.log.active
	if g == nil {
		return
	}
	w.closeFile()
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	w.log.active = nil
	w.st.retireLocked(g)
}

// abandon stops writing to the active segment after an error. After a failed sync the kernel
// may have dropped what was written, and may report success the next time (fsync(2), EIO).
// What was synced before stays; the rest goes from memory to a new segment.
func (w *segmentWriter) abandon() {
	g := w.log.active
	w.closeFile()
	w.st.mu.Lock()
	w.log.eachUnsynced(func(e *memEntry) {
		if e.seg != g {
			return
		}
		e.seg = nil
		g.hi = min(g.hi, e.id)
		if !e.done {
			g.live--
		}
	})
	g.size = g.synced
	w.log.active = nil
	w.st.retireLocked(g)
	left := g.live > 0
	w.st.mu.Unlock()
	if left {
		// Anything after that would only be sent twice.
		_ = w.disk.Truncate(g.file(), g.synced)
	}
}

// cutUnwritten cuts off what a failed write may have left after the entries of the active
// segment. It reports whether the segment can still be used: a full disk has what was
// written before, and can sync it.
func (w *segmentWriter) cutUnwritten(err error) bool {
	g := w.log.active
	return noRoom(err) && w.disk.Truncate(g.file(), g.size) == nil
}

// noRoom reports whether an error says that the disk is full.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// readOpen reads the active segment from its open file, even if its name is gone.
func (w *segmentWriter) readOpen() []byte {
	g, f := w.log.active, w.file
	if g == nil || f == nil {
		return nil
	}
	data := make([]byte, g.size)
	n, _ := io.ReadFull(io.NewSectionReader(f, 0, g.size), data) // as much as there is in the file
	return data[:n]
}
