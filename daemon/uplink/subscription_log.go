package uplink

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/journal"
	"fieldpost/daemon/wake"
)

// Limits that keep the file small: the most recently used client ids, and for each of them
// the most recently used filters.
const (
	mostClients = 16
	mostFilters = 16
	longestName = 1024 // bytes of a client id or filter; longer ones are not stored
	// logRetry is when a failed write is tried again.
	logRetry = time.Minute
)

// SubscriptionLog stores which filters the broker's sessions of this board may hold, by
// client id, so that those of earlier configurations can be ended. It uses the journal
// "subscriptions" in the spool directory. If it cannot read or write, only that is lost,
// because orders act only on the topic that is configured now; so it raises no fault.
//
// Run is for one goroutine. Any goroutine may call the other methods.
type SubscriptionLog struct {
	client  string
	wanted  []string // the filters that the session holds from now on
	journal *journal.Journal
	log     *slog.Logger
	changed wake.Signal // set when held is not what is on disk

	mu   sync.Mutex
	held []holder // most recently used client id first
	good bool     // the journal is equal to held
}

// holder is a session and the filters that it may hold, the newest first.
type holder struct {
	ClientID string   `json:"client_id"`
	Filters  []string `json:"filters"`
}

// NewSubscriptionLog returns a log and reads what earlier runs have left in storage. wanted
// are the filters to which this run subscribes in a session that the broker keeps.
func NewSubscriptionLog(client string, wanted []string, storage journal.Storage, log *slog.Logger) *SubscriptionLog {
	s := &SubscriptionLog{client: client, wanted: wanted, journal: journal.New(storage), log: log, changed: wake.New()}
	s.load()
	return s
}

// load reads the journal, once it can be read.
func (s *SubscriptionLog) load() {
	if s.journal.WasRead() {
		return
	}
	var before []holder
	damage, err := s.journal.Read(func(entry []byte) bool {
		var h holder
		if json.Unmarshal(entry, &h) != nil || h.ClientID == "" || !utf8.Valid(entry) {
			return false
		}
		before = append(before, h)
		return true
	})
	if damage.Any() {
		s.log.Warn("stored subscriptions of earlier configurations are damaged; ignoring their messages", "places", damage.Holes, "tail", damage.Tail)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = err == nil && !damage.Any() && len(s.held) == 0
	for _, h := range before {
		s.addLocked(h)
	}
	s.putWantedFirstLocked()
}

// addLocked adds what one more session may hold.
func (s *SubscriptionLog) addLocked(h holder) {
	if len(h.ClientID) > longestName {
		return
	}
	i := slices.IndexFunc(s.held, func(x holder) bool { return x.ClientID == h.ClientID })
	if i < 0 {
		i = len(s.held)
		s.held = append(s.held, holder{ClientID: h.ClientID})
	}
	x := &s.held[i]
	for _, f := range h.Filters {
		if f != "" && len(f) <= longestName && !slices.Contains(x.Filters, f) {
			x.Filters = append(x.Filters, f)
		}
	}
	x.Filters = x.Filters[:min(len(x.Filters), mostFilters)]
}

// putWantedFirstLocked puts the current subscriptions first.
func (s *SubscriptionLog) putWantedFirstLocked() {
	before := s.held
	s.held = nil
	s.addLocked(holder{ClientID: s.client, Filters: s.wanted})
	for _, h := range before {
		s.addLocked(h)
	}
	s.held = slices.DeleteFunc(s.held, func(h holder) bool { return len(h.Filters) == 0 })
	s.held = s.held[:min(len(s.held), mostClients)]
	s.good = s.good && slices.EqualFunc(before, s.held, func(a, b holder) bool {
		return a.ClientID == b.ClientID && slices.Equal(a.Filters, b.Filters)
	})
}

// Want sets the client id with which the link connects from now on, and the filters of its
// session. It returns the other filters that this session may hold. Any goroutine; it does
// not wait.
func (s *SubscriptionLog) Want(client string, filters []string) (stale []string) {
	s.mu.Lock()
	s.client, s.wanted = client, filters
	s.putWantedFirstLocked()
	s.mu.Unlock()
	s.changed.Set()
	return s.Stale()
}

// Stale returns the other filters that the session may hold.
func (s *SubscriptionLog) Stale() (filters []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		if h.ClientID != s.client {
			continue
		}
		for _, f := range h.Filters {
			if !slices.Contains(s.wanted, f) {
				filters = append(filters, f)
			}
		}
	}
	return filters
}

// Released records that the session no longer holds a filter. Any goroutine; it does not
// wait.
func (s *SubscriptionLog) Released(filter string) {
	s.mu.Lock()
	for i := range s.held {
		if h := &s.held[i]; h.ClientID == s.client {
			h.Filters = slices.DeleteFunc(slices.Clone(h.Filters), func(f string) bool { return f == filter })
			s.good = false
		}
	}
	s.mu.Unlock()
	s.changed.Set()
}

// Run writes changes until ctx ends, and then once more.
func (s *SubscriptionLog) Run(ctx context.Context) error {
	failed := false
	journal.Keep(ctx, s.changed.C(), func(last bool) time.Duration {
		if err := s.write(); err != nil && !failed && !last {
			s.log.Debug("cannot store the subscriptions", "err", err)
			failed = true
		}
		return logRetry
	})
	return nil
}

// write writes the journal if it differs from held.
func (s *SubscriptionLog) write() error {
	s.load()
	s.mu.Lock()
	good := s.good
	var entries [][]byte
	for _, h := range s.held {
		entry, err := json.Marshal(h)
		if err != nil {
			panic(err) // strings can always be encoded
		}
		if len(h.Filters) > 0 {
			entries = append(entries, entry)
		}
	}
	s.good = true
	s.mu.Unlock()
	if good {
		return nil
	}
	err := s.journal.Rewrite(slices.Values(entries))
	if err != nil {
		s.mu.Lock()
		s.good = false
		s.mu.Unlock()
	}
	return err
}
