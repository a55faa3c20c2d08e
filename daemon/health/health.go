// Package health keeps the list of what can go wrong and of what is wrong now.
//
// A fault is a registered value: a code, a title, what it means and what to
// do. Nothing else in the program invents texts for people. The same list
// feeds the journal, STATUS=, the fault messages on MQTT and the
// documentation.
//
// A fault is raised about a subject (a sensor, an output, "broker") and is
// cleared when that works again. Only changes are told; a fault that goes on
// is told once.
package health

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Change is one fault raised or cleared.
type Change struct {
	Fault   Fault
	Subject string    // the sensor, output or part it is about
	Detail  string    // what was seen, when raised
	Raised  bool      // raised, or else cleared
	Since   time.Time // when it was raised; its monotonic clock tells for how long
}

// State gives "raised" or "cleared".
func (c Change) State() string {
	if c.Raised {
		return "raised"
	}
	return "cleared"
}

// Health is the present state. Its methods may be called from any goroutine.
// The zero value is not usable; see [New].
type Health struct {
	notify func(Change)

	mu  sync.Mutex
	now map[key]Change
}

type key struct {
	code    Code
	subject string
}

// New makes a Health on which nothing is wrong. Every change is handed to
// notify, in order, on the goroutine that raised or cleared; notify must not
// block nor call back.
func New(notify func(Change)) *Health {
	return &Health{notify: notify, now: map[key]Change{}}
}

// Raise says that subject has the fault. Raising it again does nothing but
// renew the detail.
func (h *Health) Raise(code Code, subject, detail string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := key{code, subject}
	before, known := h.now[k]
	c := Change{Fault: Lookup(code), Subject: subject, Detail: detail, Raised: true, Since: time.Now()}
	if known {
		c.Since = before.Since
	}
	h.now[k] = c
	if !known {
		h.notify(c)
	}
}

// Clear says that subject no longer has the fault.
func (h *Health) Clear(code Code, subject string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clear(key{code, subject})
}

// ClearAll says that nothing is wrong with subject, in any of the codes; in
// all codes where none is given.
func (h *Health) ClearAll(subject string, codes ...Code) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.current() {
		if c.Subject == subject && (len(codes) == 0 || slices.Contains(codes, c.Fault.Code)) {
			h.clear(key{c.Fault.Code, subject})
		}
	}
}

func (h *Health) clear(k key) {
	c, known := h.now[k]
	if !known {
		return
	}
	delete(h.now, k)
	c.Raised = false
	h.notify(c)
}

// Current gives what is wrong now, ordered by subject and code.
func (h *Health) Current() []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current()
}

func (h *Health) current() []Change {
	all := make([]Change, 0, len(h.now))
	for _, c := range h.now {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Change) int {
		return strings.Compare(a.Subject+" "+string(a.Fault.Code), b.Subject+" "+string(b.Fault.Code))
	})
	return all
}

// Summary gives one line for STATUS=: "all well", or what is wrong.
func (h *Health) Summary() string {
	all := h.Current()
	if len(all) == 0 {
		return "all well"
	}
	parts := make([]string, 0, len(all))
	for _, c := range all {
		parts = append(parts, fmt.Sprintf("%s: %s", c.Subject, c.Fault.Title))
	}
	return strings.Join(parts, "; ")
}
