package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/regular"
)

// directory is the directory of the spool: its lock, its small files and its journals. Only
// the goroutine of the writer uses it, except the journals and the atomic fields.
type directory struct {
	o    Options
	disk disk
	st   *store

	risks earlierRisks

	lock            io.Closer // nil while the directory is not ours
	attached        bool      // it has been read
	loads           int       // how often something was found in one: the range of ids for the next
	known           uint64    // the greatest run number that was found in it
	counted         bool      // and it can be counted on from
	recorded        bool      // the run file says that this run runs
	sensorsRecorded int       // in so many logs sensors were seen when it was written
	id              string    // the directory's id, for the next run; this run's is in the store
	identified      uint64    // the run in the identity file
	place           string    // the place of the lock file in the identity file
	replaced        bool      // the directory is not the one that the journals were written to

	held   atomic.Bool // the directory is ours and has been read
	verify atomic.Bool // somebody has asked to check that it is still there

	mu       sync.Mutex
	journals []*journal.File
}

// load locks the directory and reads what is in it. It does not change the store.
func (d *directory) load() (*found, error) {
	if d.lock == nil {
		lock, err := d.disk.Lock()
		if err != nil {
			return nil, err
		}
		d.lock = lock
	}
	if d.loads == idRanges {
		if !d.st.startRangesAgain() {
			return nil, fmt.Errorf("directory %q has come back %d times; it is read again when what is left of it in memory is sent", d.o.Dir, idRanges)
		}
		d.loads = 0
	}
	f, err := load(d.disk, ownRun{d.st.run, d.st.source, d.st.lostFrames, idRange(d.loads)}, d.risks)
	if err != nil {
		return nil, err
	}
	if f.taken {
		return nil, fmt.Errorf("directory %q holds messages of another run %d; they are sent after a restart", d.o.Dir, d.st.run)
	}
	if f.owesAny() {
		d.loads++
	}
	d.attached = true
	d.held.Store(true)
	d.known, d.counted = f.known, f.counted
	d.logCrashes(f)
	if len(f.damage) > 0 {
		d.o.Log.Warn("spool was damaged", "dir", d.o.Dir, "files", f.damage)
		d.o.Health.Raise(health.SpoolDamaged, subject, strings.Join(f.damage, "; "))
	}
	return f, nil
}

// logCrashes logs which runs did not stop in order, and why the gaps about them may report
// more than was lost.
func (d *directory) logCrashes(f *found) {
	for _, x := range f.crashes {
		who, _ := f.sources.of(x.run)
		if x.unknown == "" {
			d.o.Log.Info("an earlier run did not stop in order; its risk file says what that cost", "spool", who.Spool, "run", x.run)
		} else {
			d.o.Log.Info("an earlier run did not stop in order; its losses are not known, so gaps report all that may be missing", "spool", who.Spool, "run", x.run, "reason", x.unknown)
		}
	}
}

// giveUp forgets the directory, because its name no longer leads to it.
func (d *directory) giveUp() {
	_ = d.lock.Close() // there is nothing left to lock
	d.lock, d.attached, d.recorded, d.identified = nil, false, false, 0
	d.sensorsRecorded, d.replaced = -1, true
}

// errNotHeld is the error of a journal while the spool cannot use the directory.
var errNotHeld = errors.New("the spool's directory cannot be used")

// journal returns the file of a journal in the directory.
func (d *directory) journal(name string) *journal.File {
	j := journal.NewFile(d.disk, name, func() error {
		if !d.held.Load() {
			return errNotHeld
		}
		return nil
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.journals = append(d.journals, j)
	return j
}

func (d *directory) allJournals() []*journal.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.journals)
}

// putJournalsBack restores the journals that were removed. One that cannot be restored is the
// business of its user, who raises a fault when an entry cannot be written. An error is that
// the directory is gone.
func (d *directory) putJournalsBack() error {
	for _, j := range d.allJournals() {
		if err := j.PutBack(); errors.Is(err, durable.ErrGone) {
			return err
		}
	}
	return nil
}

// moveJournals writes the journals to the directory, if they were in another one.
func (d *directory) moveJournals() error {
	if !d.replaced {
		return nil
	}
	if err := d.putJournalsBack(); err != nil {
		return err
	}
	d.replaced = false
	return nil
}

// close closes the journals and unlocks the directory.
func (d *directory) close() error {
	d.held.Store(false)
	for _, j := range d.allJournals() {
		j.Close()
	}
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// disk is the file system interface of the directory. Names are relative to it. Tests use one
// that fails.
type disk interface {
	// Sync and Same of Dir refer to the locked directory, if there is one. Same restores the
	// lock file if it was removed. Its error wraps [durable.ErrGone] if the name now leads to
	// another directory, or if another process has locked it.
	durable.Dir
	// Lock creates the directory if it is missing, and locks it for this process. The
	// error is a [*LockedError] if another process has locked it.
	Lock() (io.Closer, error)
	// Place identifies the lock file on its file system; a copy has another place. It is
	// "" if that is not known.
	Place() string
}

// osDisk is a directory of the operating system.
type osDisk struct {
	durable.OSDir
	hold atomic.Pointer[hold] // nil while it is not locked
}

// fileMode is the mode of the spool's files.
const fileMode = 0o640

func newDisk(dir string) *osDisk {
	return &osDisk{OSDir: durable.OSDir{Path: dir, Mode: fileMode}}
}

func (d *osDisk) Lock() (io.Closer, error) {
	_, missing := os.Stat(d.Path)
	if err := os.MkdirAll(d.Path, 0o750); err != nil {
		return nil, fmt.Errorf("make spool directory: %w", err)
	}
	if missing != nil {
		if err := syncDir(filepath.Dir(d.Path)); err != nil {
			return nil, err
		}
	}
	h, err := holdDir(d.Path)
	if err != nil {
		return nil, err
	}
	h.free = func() { d.hold.Store(nil) }
	d.hold.Store(h)
	return h, nil
}

func (d *osDisk) Same() error {
	if h := d.hold.Load(); h != nil {
		return h.same()
	}
	return nil
}

// Create creates a file in the locked directory. If another directory has taken its place
// meanwhile, Create removes the file again: there it would look like the file of another run
// with our number.
func (d *osDisk) Create(name string) (durable.File, error) {
	f, err := d.OSDir.Create(name)
	if err != nil {
		return nil, err
	}
	if err := d.Same(); err != nil {
		return nil, errors.Join(err, f.Close(), d.Remove(name))
	}
	return f, nil
}

func (d *osDisk) Place() string {
	h := d.hold.Load()
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := h.file.Stat()
	if err != nil {
		return ""
	}
	return inode(info)
}

func (d *osDisk) List() ([]string, error) {
	names, err := d.OSDir.List()
	if err != nil {
		return nil, fmt.Errorf("list spool: %w", err)
	}
	return names, nil
}

func (d *osDisk) Sync() error {
	if err := d.Same(); err != nil {
		return err
	}
	return syncDir(d.Path)
}

func syncDir(dir string) error {
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("sync spool directory: %w", err)
	}
	return nil
}

// LockedError is the error when another process has locked the directory of the spool.
type LockedError struct {
	Dir string
	PID int // the id of that process; 0 if unknown
}

// Error names the directory and the process.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("spool directory %q is in use by another process", e.Dir)
	}
	return fmt.Sprintf("spool directory %q is in use by process %d", e.Dir, e.PID)
}

const lockName = "lock"

// hold is the lock on a directory. The lock file in it is locked; it contains the process id,
// and every user of the directory can check it. Somebody may remove that file, so the
// directory itself is locked too, but only if other users cannot open it: otherwise each of
// them could lock it. If they can, the lock file is restored as soon as it is missed.
type hold struct {
	dir  *os.File
	free func() // called by Close

	mu   sync.Mutex
	file *os.File
}

// holdDir locks an existing directory. The error is a [*LockedError] if another process has
// locked it.
func holdDir(path string) (*hold, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open spool directory: %w", err)
	}
	h := &hold{dir: dir, free: func() {}}
	if lockable(dir) && errors.Is(durable.Lock(dir), durable.ErrLocked) { // not every file system can lock one
		err = &LockedError{Dir: path, PID: pidIn(path)}
	} else {
		h.file, err = lockFile(path)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return h, nil
}

// lockable reports whether only the owner and the group can open a directory.
func lockable(dir *os.File) bool {
	const othersRead = 0o004
	info, err := dir.Stat()
	return err == nil && info.Mode().Perm()&othersRead == 0
}

// lockFile locks the lock file in a directory, and writes the process id to it.
func lockFile(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := regular.OpenUnlinked(path, os.O_RDWR|os.O_CREATE, 0o640)
	readOnly := err != nil
	if readOnly {
		// A card that has become read-only can still be read and locked.
		var again error
		if f, again = regular.OpenUnlinked(path, os.O_RDONLY, 0); again != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
	}
	if err := durable.Lock(f); err != nil {
		defer f.Close()
		if errors.Is(err, durable.ErrLocked) {
			return nil, &LockedError{Dir: dir, PID: readPID(f)}
		}
		return nil, fmt.Errorf("lock spool directory %q: %w", dir, err)
	}
	if !readOnly {
		// The process id is only for people; the kernel knows who has the lock.
		if f.Truncate(0) == nil {
			_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	return f, nil
}

// Close unlocks the directory.
func (h *hold) Close() error {
	h.free()
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.file.Close(), h.dir.Close())
}

// same is the Same of disk.
func (h *hold) same() error {
	named, err := os.Stat(h.dir.Name())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("spool directory %q %w", h.dir.Name(), durable.ErrGone)
	}
	if err != nil {
		return fmt.Errorf("stat spool directory: %w", err)
	}
	ours, err := h.dir.Stat()
	if err != nil {
		return fmt.Errorf("stat spool directory: %w", err)
	}
	if !os.SameFile(named, ours) {
		return fmt.Errorf("spool directory %q %w", h.dir.Name(), durable.ErrGone)
	}
	return h.sameLock()
}

func (h *hold) sameLock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := (durable.OSFile{File: h.file}).There(); !errors.Is(err, durable.ErrGone) {
		return err
	}
	f, err := lockFile(h.dir.Name())
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("spool directory's lock %w: %w", durable.ErrGone, err)
	}
	if err != nil {
		return fmt.Errorf("spool directory's lock was removed: %w", err)
	}
	_ = h.file.Close() // nobody can find it any more
	h.file = f
	return nil
}

// pidIn returns the process id in the lock file of a directory; 0 if it is unknown.
func pidIn(dir string) int {
	f, err := regular.OpenUnlinked(filepath.Join(dir, lockName), os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	return readPID(f)
}

func readPID(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// InUse reports whether a process uses the spool in a directory; then the error is a
// [*LockedError]. It is nil if no process uses it, and also if that cannot be known, because
// there is no such directory or this user may not open it. It does not disturb a daemon that
// starts at the same moment.
func InUse(dir string) error {
	if f, err := regular.OpenUnlinked(filepath.Join(dir, lockName), os.O_RDONLY, 0); err == nil {
		defer f.Close()
		if locked, _ := durable.Locked(f); locked {
			return &LockedError{Dir: dir, PID: readPID(f)}
		}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	if lockable(d) {
		if locked, _ := durable.Locked(d); locked { // somebody removed the file
			return &LockedError{Dir: dir}
		}
	}
	return nil
}
