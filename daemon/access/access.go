// Package access finds files of fieldpost that other users of this machine can read or
// change: whoever can write the configuration can move pins, and whoever can read the key
// can be this board to the broker.
//
// root and the owner of a file never count as others. On Windows it finds nothing, because
// access rights there are not in a file's mode.
package access

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"

	"fieldpost/daemon/visible"
)

// Open is one file or directory that is open to others.
type Open struct {
	Path string // what is open, links resolved
	What string // who may do what: "every user may write it (mode 0666)"
	Do   string // the command that fixes it
}

// String returns one line with what is wrong and what to do.
func (o Open) String() string {
	return fmt.Sprintf("%s: %s; %s", visible.Text(o.Path), o.What, visible.Text(o.Do))
}

const (
	othersRead  = 0o004
	othersWrite = 0o002
	others      = 0o007
	groups      = 0o070
)

// Secret checks who besides its owner may read, change or replace the file at path. Its
// group may be our own, fieldpost or root. A file that cannot be checked counts as closed;
// whoever opens it reports why. Any goroutine; it waits for the disk.
func Secret(path string) []Open {
	at, info := look(path)
	if info == nil {
		return nil
	}
	var found []Open
	mode := info.Mode().Perm()
	switch group, ours := groupOf(info); {
	case mode&others != 0:
		what := "every user may read it"
		if mode&othersRead == 0 {
			what = "every user may write or execute it"
		}
		found = append(found, open(at, info, what, "chmod 0640 "+at))
	case mode&groups != 0 && !ours:
		found = append(found, open(at, info, "all of group "+group+" may read it", fmt.Sprintf("chgrp fieldpost %s && chmod 0640 %[1]s", at)))
	}
	return append(found, above(at)...)
}

// File checks whether every user may change or replace the file at path. Otherwise it is
// like [Secret].
func File(path string) []Open {
	at, info := look(path)
	if info == nil {
		return nil
	}
	return append(writable(at, info), above(at)...)
}

// Directory checks whether every user may add files to the directory at path, sticky or not,
// or replace the directory. It is for directories that fieldpost writes to. Otherwise it is
// like [Secret].
func Directory(path string) []Open {
	at, info := look(path)
	if info == nil {
		return nil
	}
	return append(writable(at, info), above(at)...)
}

// look resolves the links of a path and returns the file there; nil if it cannot be checked.
func look(path string) (at string, info fs.FileInfo) {
	if path == "" || runtime.GOOS == "windows" {
		return "", nil
	}
	at, err := filepath.EvalSymlinks(path)
	if err == nil {
		at, err = filepath.Abs(at)
	}
	if err == nil {
		info, err = os.Stat(at)
	}
	if err != nil {
		return "", nil
	}
	return at, info
}

func writable(at string, info fs.FileInfo) []Open {
	if info.Mode().Perm()&othersWrite == 0 {
		return nil
	}
	what := "every user may write it"
	if info.IsDir() {
		what = "every user may put files there"
	}
	return []Open{open(at, info, what, "chmod o-w "+at)}
}

// above checks the directories above a path: if every user may write to one that is not
// sticky, every user can replace what is in it.
func above(at string) (found []Open) {
	for dir := filepath.Dir(at); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm()&othersWrite != 0 && info.Mode()&fs.ModeSticky == 0 {
			found = append(found, open(dir, info, "every user may replace what is in it", "chmod o-w "+dir))
		}
		if dir == filepath.Dir(dir) {
			return found
		}
	}
}

func open(at string, info fs.FileInfo, what, do string) Open {
	return Open{Path: at, What: fmt.Sprintf("%s (mode %#o)", what, info.Mode().Perm()), Do: do}
}

// groupOf returns the name of a file's group, and whether that group may read our secrets.
func groupOf(info fs.FileInfo) (name string, ours bool) {
	gid, ok := gidOf(info)
	if !ok || gid == 0 || gid == os.Getegid() {
		return "", true
	}
	name = strconv.Itoa(gid)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return name, name == "fieldpost"
}
