package config

import (
	"io/fs"
	"os"
	"time"

	"fieldpost/daemon/regular"
)

const (
	settleFor   = 100 * time.Millisecond // a file that was changed recently must stay the same for this time
	settleLimit = 3 * time.Second        // LoadSettled gives up after this time
	recent      = 2 * time.Second        // a change within this time is recent, by the wall clock
)

// LoadSettled is like [Load], for a file that somebody may be writing in place right now. The
// first part of a configuration may be valid on its own, with fewer outputs. So a file that
// was changed within the last two seconds is read only after it has not changed for 100 ms,
// and a file that changes while it is read is read again. If it has not settled after 3 s,
// the error says so.
func LoadSettled(path string) (*Config, error) {
	data, err := readSettled(path, regular.Read)
	if err != nil {
		return nil, Errors{{File: path, Reason: plainly(err), Err: err}}
	}
	if data == nil {
		return nil, Errors{{File: path, Reason: "is being written; try again when that is finished"}}
	}
	return parse(path, data, true)
}

// readSettled returns the content of a file, or nil if it does not settle.
func readSettled(path string, read func(path string, most int64) ([]byte, error)) ([]byte, error) {
	tick := time.NewTicker(settleFor)
	defer tick.Stop()
	before, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	age := time.Since(before.ModTime())
	settled := (age > recent || age < -recent) && !wrapped(before.ModTime())
	for end := time.Now().Add(settleLimit); time.Now().Before(end); {
		if !settled {
			<-tick.C
			now, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			settled, before = unchanged(before, now), now
			continue
		}
		data, err := read(path, maxFile)
		if err != nil {
			return nil, err
		}
		after, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if unchanged(before, after) {
			return data, nil
		}
		settled, before = false, after
	}
	return nil, nil
}

// wrapped reports whether a file's time is unknown because it has wrapped around: on 32-bit ARM
// the seconds since 1970 have 32 bits with a sign (struct stat64), so from 2038 on all files
// seem to be older than 1970.
func wrapped(changed time.Time) bool { return changed.Unix() < 0 }

// unchanged reports whether two results of stat show the same file with no write in between.
func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
