//go:build chaos && linux

package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tally adds up the counts of all boards.
type tally struct {
	spoilt atomic.Bool // a board has failed

	mu     sync.Mutex
	done   int
	limit  int   // bytes allowed by the unit
	peak   int64 // peak bytes of a daemon's control group, with its spool's disk and page cache; 0 if none was limited
	counts map[string]int
	most   map[string]time.Duration
}

func (a *tally) add(done map[string]int, b *checker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counts == nil {
		a.counts, a.most = map[string]int{}, map[string]time.Duration{}
	}
	for name, n := range done {
		if !strings.HasPrefix(name, " ") {
			a.done += n
		}
		a.counts["DID "+name] += n
	}
	for name, n := range b.count {
		if strings.ToUpper(name[:1]) != name[:1] {
			name = "SAW " + name
		}
		a.counts[name] += n
	}
	for name, d := range b.most {
		a.most[name] = max(a.most[name], d)
	}
}

// weigh records the peak memory of a daemon.
func (a *tally) weigh(peak int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.peak = max(a.peak, peak)
}

// print prints all counts, the most important ones last.
func (a *tally) print() {
	a.mu.Lock()
	defer a.mu.Unlock()
	group := ""
	for _, name := range slices.SortedFunc(maps.Keys(a.counts), inGroups) {
		if g, _, _ := strings.Cut(name, " "); g != group {
			group = g
			fmt.Println()
		}
		fmt.Printf("%8d  %s", a.counts[name], name)
		if d := a.most[name]; d > 0 {
			fmt.Printf("  (%v at most)", d.Round(time.Millisecond))
		}
		fmt.Println()
	}
	if a.peak > 0 {
		fmt.Printf("\n%8.1f  MiB peak memory of a daemon with its memory file systems and caches, of %d\n", float64(a.peak)/(1<<20), a.limit>>20)
	}
}

// groups are the first words of the counts, in the order of printing.
var groups = []string{"SAW", "DID", "KILLS", "LOST", "TOLERATED"}

func inGroups(a, b string) int {
	place := func(name string) int {
		g, _, _ := strings.Cut(name, " ")
		return slices.Index(groups, g)
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
}
