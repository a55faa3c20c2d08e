// Package durabletest has a directory in memory for tests: see [Dir].
package durabletest

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"fieldpost/daemon/durable"
)

// Dir is a [durable.Dir] in memory that knows what a power cut would leave of it,
// and fails when told to.
type Dir struct {
	Mu      sync.Mutex
	Names   map[string]*Content // as the kernel has them
	Durable map[string]*Content // as a power cut leaves them
	Held    bool
	At      string                      // its place
	Away    error                       // what stands in the directory's place: see Same
	Fail    func(op, name string) error // nil: nothing fails
	Syncs   int
	Written int64
	Reads   int
	Locked  error // what Lock gives while it is held
}

// Content is what a file holds.
type Content struct {
	B    []byte
	Good int // synced
}

// New gives an empty one.
func New() *Dir {
	return &Dir{Names: map[string]*Content{}, Durable: map[string]*Content{}}
}

func (d *Dir) op(op, name string) error {
	if d.Fail != nil {
		if err := d.Fail(op, name); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	return nil
}

// Failing sets what fails from now on; nil is nothing. The operations are named
// as the methods, in lower case, with "add" for Append and "syncdir" for Sync.
func (d *Dir) Failing(f func(op, name string) error) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Fail = f
}

// Cut gives what a power cut now leaves: what was synced, and of the rest a
// part that chance decides, the end of it perhaps zeros.
func (d *Dir) Cut(rnd *rand.Rand) *Dir {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return d.CutNow(rnd)
}

// CutNow is Cut for what fails, which is called with Mu held.
func (d *Dir) CutNow(rnd *rand.Rand) *Dir {
	names := d.Durable
	if rnd.IntN(2) == 0 {
		names = d.Names
	}
	out := New()
	out.Locked = d.Locked
	for _, name := range slices.Sorted(maps.Keys(names)) { // so that a seed does the same again
		f := names[name]
		keep := f.Good + rnd.IntN(len(f.B)-f.Good+1)
		b := bytes.Clone(f.B[:keep])
		if rnd.IntN(3) == 0 {
			b = append(b, make([]byte, len(f.B)-keep)...)
		}
		out.Names[name] = &Content{b, len(b)}
	}
	out.Durable = maps.Clone(out.Names)
	return out
}

// Kill gives what the kernel has when only the process dies.
func (d *Dir) Kill() *Dir {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return d.KillNow()
}

// KillNow is Kill with Mu held.
func (d *Dir) KillNow() *Dir {
	out := New()
	out.Locked = d.Locked
	for name, f := range d.Names {
		out.Names[name] = &Content{bytes.Clone(f.B), f.Good}
	}
	out.Durable = maps.Clone(out.Names)
	return out
}

type dirLock struct{ d *Dir }

func (l dirLock) Close() error {
	l.d.Mu.Lock()
	defer l.d.Mu.Unlock()
	l.d.Held = false
	return nil
}

// Lock takes the directory, and creates it again where it had vanished.
func (d *Dir) Lock() (io.Closer, error) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if err := d.op("lock", ""); err != nil {
		return nil, err
	}
	if d.Away != nil {
		d.Away = nil
	}
	if d.Held {
		return nil, d.Locked
	}
	d.Held = true
	return dirLock{d}, nil
}

// List is [durable.Dir]'s.
func (d *Dir) List() ([]string, error) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return slices.Sorted(maps.Keys(d.Names)), d.op("list", "")
}

// Read is [durable.Dir]'s.
func (d *Dir) Read(name string, limit int) ([]byte, error) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Reads++
	if err := d.op("read", name); err != nil {
		return nil, err
	}
	f := d.Names[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(f.B[:min(limit, len(f.B))]), nil
}

// Create is [durable.Dir]'s.
func (d *Dir) Create(name string) (durable.File, error) { return d.open("create", name) }

// Append is [durable.Dir]'s.
func (d *Dir) Append(name string) (durable.File, error) { return d.open("add", name) }

func (d *Dir) open(op, name string) (durable.File, error) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if err := d.op(op, name); err != nil {
		return nil, err
	}
	if d.Names[name] == nil {
		d.Names[name] = &Content{}
	} else if op == "create" {
		return nil, fs.ErrExist
	}
	return &File{d, name, d.Names[name]}, nil
}

// Rename is [durable.Dir]'s.
func (d *Dir) Rename(from, to string) error {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if err := d.op("rename", from); err != nil {
		return err
	}
	if d.Names[from] == nil {
		return fs.ErrNotExist
	}
	d.Names[to] = d.Names[from]
	delete(d.Names, from)
	return nil
}

// Remove is [durable.Dir]'s.
func (d *Dir) Remove(name string) error {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if err := d.op("remove", name); err != nil {
		return err
	}
	delete(d.Names, name)
	return nil
}

// Truncate is [durable.Dir]'s.
func (d *Dir) Truncate(name string, size int64) error {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if err := d.op("truncate", name); err != nil {
		return err
	}
	f := d.Names[name]
	if f == nil {
		return fs.ErrNotExist
	}
	if grow := int(size) - len(f.B); grow > 0 { // as truncate(2) does
		f.B = append(f.B, make([]byte, grow)...)
	}
	f.B = f.B[:size]
	f.Good = min(f.Good, len(f.B))
	return nil
}

// Size is [durable.Dir]'s.
func (d *Dir) Size(name string) (int64, error) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if f := d.Names[name]; f != nil {
		return int64(len(f.B)), d.op("size", name)
	}
	return 0, fs.ErrNotExist
}

// Sync is [durable.Dir]'s.
func (d *Dir) Sync() error {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if err := d.op("syncdir", ""); err != nil {
		return err
	}
	if d.Away != nil {
		return d.Away
	}
	d.Syncs++
	d.Durable = maps.Clone(d.Names)
	return nil
}

// Files gives the names that begin and end so.
func (d *Dir) Files(prefix, suffix string) []string {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.Names)) {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			out = append(out, name)
		}
	}
	return out
}

// Data gives a copy of what a file holds, or nil.
func (d *Dir) Data(name string) []byte {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if d.Names[name] == nil {
		return nil
	}
	return bytes.Clone(d.Names[name].B)
}

// Put makes a file that is on disk.
func (d *Dir) Put(name string, b []byte) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Names[name] = &Content{bytes.Clone(b), len(b)}
	d.Durable[name] = d.Names[name]
}

// SyncCount is the number of syncs, of files and of the directory.
func (d *Dir) SyncCount() int {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return d.Syncs
}

// File is an open file of a Dir.
type File struct {
	d    *Dir
	name string
	f    *Content
}

// Write fails as a full disk does: half of it is written.
func (f *File) Write(b []byte) (int, error) {
	f.d.Mu.Lock()
	defer f.d.Mu.Unlock()
	if err := f.d.op("write", f.name); err != nil {
		f.f.B = append(f.f.B, b[:len(b)/2]...)
		return len(b) / 2, err
	}
	f.f.B = append(f.f.B, b...)
	f.d.Written += int64(len(b))
	return len(b), nil
}

// Place is At.
func (d *Dir) Place() string { return d.At }

// Vanish is what rm -r does to the directory, until it is made again by Lock.
func (d *Dir) Vanish() {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Names, d.Durable, d.Held, d.Away = map[string]*Content{}, map[string]*Content{}, false, durable.ErrGone
}

// Same is [durable.Dir]'s.
func (d *Dir) Same() error {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return d.Away
}

// There is [durable.File]'s.
func (f *File) There() error {
	f.d.Mu.Lock()
	defer f.d.Mu.Unlock()
	if f.d.Names[f.name] != f.f {
		return durable.ErrGone
	}
	return nil
}

// ReadAt is [durable.File]'s.
func (f *File) ReadAt(b []byte, at int64) (int, error) {
	f.d.Mu.Lock()
	defer f.d.Mu.Unlock()
	n := copy(b, f.f.B[min(int(at), len(f.f.B)):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Sync is [durable.File]'s.
func (f *File) Sync() error { return f.synced("sync") }

// Datasync is [durable.File]'s.
func (f *File) Datasync() error { return f.synced("datasync") }

func (f *File) synced(op string) error {
	f.d.Mu.Lock()
	defer f.d.Mu.Unlock()
	if err := f.d.op(op, f.name); err != nil {
		return err
	}
	f.d.Syncs++
	f.f.Good = len(f.f.B)
	return nil
}

// Close is [durable.File]'s.
func (f *File) Close() error { return nil }
