package clock

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// maxBoots bounds the stored boots. It is two months for a board that is switched on every
// morning.
const maxBoots = 64

// Boots has a moment at which the wall clock was true for each of the latest boots of this
// machine. From that moment the time of everything earlier in that boot can be calculated,
// even in a later boot. The time of what happened later, if that boot lost the time again,
// stays unknown.
//
// Any goroutine may call the methods. The zero value is empty.
type Boots struct {
	mu    sync.Mutex
	known []Stamp // oldest first, one per boot, all synced
}

// Learn stores a moment and replaces an earlier one of the same boot. It ignores a moment at
// which the wall clock was not known to be true.
func (b *Boots) Learn(at Stamp) {
	if !at.Synced || at.Boot == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = append(b.withoutLocked(at.Boot), at)
	if n := len(b.known) - maxBoots; n > 0 {
		b.known = slices.Delete(b.known, 0, n)
	}
}

// withoutLocked returns the moments of all boots but one.
func (b *Boots) withoutLocked(boot string) []Stamp {
	return slices.DeleteFunc(b.known, func(s Stamp) bool { return s.Boot == boot })
}

// Fill is [Fill], but also for stamps of earlier boots. A nil Boots is empty.
func (b *Boots) Fill(s, now Stamp) Stamp {
	s = Fill(s, now)
	if s.Synced || b == nil {
		return s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.known {
		if at.Boot == s.Boot && s.Mono <= at.Mono {
			return Fill(s, at)
		}
	}
	return s
}

// moment is a stamp in the file.
type moment struct {
	Boot string `json:"boot"`
	Mono int64  `json:"mono"` // microseconds since that boot
	Wall int64  `json:"wall"` // microseconds since 1970, UTC
}

// Entries returns the moments for a file, oldest boot first.
func (b *Boots) Entries() (out [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.known {
		e, err := json.Marshal(moment{s.Boot, s.Mono.Microseconds(), s.Wall.UnixMicro()})
		if err != nil {
			panic(err) // a string and two numbers
		}
		out = append(out, e)
	}
	return out
}

// Read adds an entry of the file, and reports whether the entry is valid. It does not replace
// a newer moment that Learn has stored.
func (b *Boots) Read(entry []byte) bool {
	var m moment
	if json.Unmarshal(entry, &m) != nil || m.Boot == "" || m.Mono < 0 || m.Mono > int64(maxMono/time.Microsecond) {
		return false
	}
	b.mu.Lock()
	known := slices.ContainsFunc(b.known, func(s Stamp) bool { return s.Boot == m.Boot })
	b.mu.Unlock()
	if !known {
		b.Learn(Stamp{Boot: m.Boot, Mono: time.Duration(m.Mono) * time.Microsecond, Wall: time.UnixMicro(m.Wall).UTC(), Synced: true})
	}
	return true
}

// maxMono is longer than any boot.
const maxMono = 200 * 365 * 24 * time.Hour
