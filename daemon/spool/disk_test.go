package spool

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// memDisk is a disk in memory that knows what a power cut would leave of it,
// and fails when told to.
type memDisk struct {
	mu      sync.Mutex
	names   map[string]*memData // as the kernel has them
	durable map[string]*memData // as a power cut leaves them
	held    bool
	at      string                      // its place
	away    error                       // what stands in the directory's place: see same
	fail    func(op, name string) error // nil: nothing fails
	syncs   int
	written int64
	reads   int
}

type memData struct {
	b    []byte
	good int // synced
}

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*memData{}, durable: map[string]*memData{}}
}

func (d *memDisk) op(op, name string) error {
	if d.fail != nil {
		if err := d.fail(op, name); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	return nil
}

// failing sets what fails from now on.
func (d *memDisk) failing(f func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// cut gives what a power cut now leaves: what was synced, and of the rest a
// part that chance decides, the end of it perhaps zeros.
func (d *memDisk) cut(rnd *rand.Rand) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cutNow(rnd)
}

// cutNow is for what fails, which is called with mu held; so is killNow.
func (d *memDisk) cutNow(rnd *rand.Rand) *memDisk {
	names := d.durable
	if rnd.IntN(2) == 0 {
		names = d.names
	}
	out := newMemDisk()
	for _, name := range slices.Sorted(maps.Keys(names)) { // so that a seed does the same again
		f := names[name]
		keep := f.good + rnd.IntN(len(f.b)-f.good+1)
		b := bytes.Clone(f.b[:keep])
		if rnd.IntN(3) == 0 {
			b = append(b, make([]byte, len(f.b)-keep)...)
		}
		out.names[name] = &memData{b, len(b)}
	}
	out.durable = maps.Clone(out.names)
	return out
}

// kill gives what the kernel has when only the process dies.
func (d *memDisk) kill() *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.killNow()
}

func (d *memDisk) killNow() *memDisk {
	out := newMemDisk()
	for name, f := range d.names {
		out.names[name] = &memData{bytes.Clone(f.b), f.good}
	}
	out.durable = maps.Clone(out.names)
	return out
}

type memLock struct{ d *memDisk }

func (l memLock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.d.held = false
	return nil
}

func (d *memDisk) lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("lock", ""); err != nil {
		return nil, err
	}
	if d.away != nil {
		d.away = nil
	}
	if d.held {
		return nil, &LockedError{Dir: "memory", PID: 1}
	}
	d.held = true
	return memLock{d}, nil
}

func (d *memDisk) list() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), d.op("list", "")
}

func (d *memDisk) read(name string, limit int) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if err := d.op("read", name); err != nil {
		return nil, err
	}
	f := d.names[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(f.b[:min(limit, len(f.b))]), nil
}

func (d *memDisk) create(name string) (file, error) { return d.open("create", name) }

func (d *memDisk) add(name string) (file, error) { return d.open("add", name) }

func (d *memDisk) open(op, name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(op, name); err != nil {
		return nil, err
	}
	if d.names[name] == nil {
		d.names[name] = &memData{}
	} else if op == "create" {
		return nil, fs.ErrExist
	}
	return &memFile{d, name, d.names[name]}, nil
}

func (d *memDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("rename", from); err != nil {
		return err
	}
	if d.names[from] == nil {
		return fs.ErrNotExist
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *memDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("remove", name); err != nil {
		return err
	}
	delete(d.names, name)
	return nil
}

func (d *memDisk) truncate(name string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("truncate", name); err != nil {
		return err
	}
	f := d.names[name]
	f.b = f.b[:size]
	f.good = min(f.good, len(f.b))
	return nil
}

func (d *memDisk) size(name string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.names[name]; f != nil {
		return int64(len(f.b)), d.op("size", name)
	}
	return 0, fs.ErrNotExist
}

func (d *memDisk) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("syncdir", ""); err != nil {
		return err
	}
	if d.away != nil {
		return d.away
	}
	d.syncs++
	d.durable = maps.Clone(d.names)
	return nil
}

// files gives the names that begin and end so.
func (d *memDisk) files(prefix, suffix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			out = append(out, name)
		}
	}
	return out
}

func (d *memDisk) data(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[name] == nil {
		return nil
	}
	return bytes.Clone(d.names[name].b)
}

func (d *memDisk) put(name string, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = &memData{bytes.Clone(b), len(b)}
	d.durable[name] = d.names[name]
}

func (d *memDisk) syncCount() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

type memFile struct {
	d    *memDisk
	name string
	f    *memData
}

// Write fails as a full disk does: half of it is written.
func (f *memFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op("write", f.name); err != nil {
		f.f.b = append(f.f.b, b[:len(b)/2]...)
		return len(b) / 2, err
	}
	f.f.b = append(f.f.b, b...)
	f.d.written += int64(len(b))
	return len(b), nil
}

func (d *memDisk) place() string { return d.at }

// vanish is what rm -r does to the directory, until it is made again by lock.
func (d *memDisk) vanish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names, d.durable, d.held, d.away = map[string]*memData{}, map[string]*memData{}, false, errGone
}

func (d *memDisk) same() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.away
}

func (f *memFile) there() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.names[f.name] != f.f {
		return errGone
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n := copy(b, f.f.b[min(int(at), len(f.f.b)):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) sync() error { return f.synced("sync") }

func (f *memFile) datasync() error { return f.synced("datasync") }

func (f *memFile) synced(op string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(op, f.name); err != nil {
		return err
	}
	f.d.syncs++
	f.f.good = len(f.f.b)
	return nil
}

func (f *memFile) Close() error { return nil }
