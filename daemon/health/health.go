// Package health has the registry of everything that can go wrong, and what is wrong now.
//
// A fault is a registered value: a code, a title, what it means and what to do. The journal,
// STATUS=, the fault messages on MQTT and the documentation all use this registry.
//
// A fault is raised about a subject (a sensor, an output, "broker") and cleared when that works
// again. Only changes are reported: a fault that continues is reported once, and one that
// another fault explains is not reported.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Change is one fault raised or cleared.
type Change struct {
	Fault   Fault
	Subject string // the sensor, output or part it is about
	Kind    Kind   // which of these
	Detail  string // what was seen when it was raised
	Cure    string // what to do, as exactly as is known
	Raised  bool   // false: cleared
	// Upon names the subjects that are on this one, such as the sensors on a bus. Those of
	// their faults that this one explains are not reported.
	Upon  []string
	Since time.Time // when it was raised, with a monotonic clock reading
}

// State returns "raised" or "cleared".
func (c Change) State() string {
	if c.Raised {
		return "raised"
	}
	return "cleared"
}

// Explained is a raised fault and the fault that explains it.
type Explained struct {
	Change
	By *Change // nil if no other fault explains it
}

// Health holds the raised faults. Its methods may be called from any goroutine. A nil Health
// has no faults and ignores them. The zero value is not usable; see [New].
type Health struct {
	notify func(Change)

	mu       sync.Mutex
	subjects map[string]Subject
	now      map[key]*fault
}

type key struct {
	code    Code
	subject string
}

// fault is a raised fault.
type fault struct {
	Change
	told bool
}

// New returns a Health without faults. It passes every change to notify, in order, on the
// goroutine that raised or cleared the fault. notify must not block, and must not call
// methods of the Health.
func New(notify func(Change)) *Health {
	return &Health{notify: notify, now: map[key]*fault{}}
}

// Know sets the sensors and outputs, in place of earlier ones. Any other subject counts as a
// part.
func (h *Health) Know(subjects []Subject) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subjects = map[string]Subject{}
	for _, s := range subjects {
		h.subjects[s.Name] = s
	}
}

// Raise raises a fault about subject. If it is raised already, Raise only updates the detail.
//
// While a fault that it depends on is raised, the fault is kept but not reported. After that
// one is cleared, the fault is reported the next time it is raised: most faults are over by
// then, and nobody has to read of each sensor on a bus that it failed and works again. So a
// fault that depends on another one must be raised with each failure.
func (h *Health) Raise(code Code, subject, detail string) { h.RaiseFor(code, subject, detail, "") }

// RaiseFor is like [Health.Raise] with a cure for this case instead of the registry's; "" is
// the registry's.
func (h *Health) RaiseFor(code Code, subject, detail, cure string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := key{code, subject}
	f, known := h.now[k]
	if !known {
		f = &fault{Change: Change{Since: time.Now()}}
		h.now[k] = f
	}
	registered, about := Lookup(code), h.subjectLocked(subject)
	f.Change = Change{
		Fault: registered, Subject: subject, Kind: about.Kind, Detail: detail, Cure: cmp.Or(cure, registered.CureOf(about.Place)),
		Raised: true, Upon: h.uponLocked(subject), Since: f.Since,
	}
	if !f.told && h.causeLocked(f) == nil {
		f.told = true
		h.notify(f.Change)
	}
}

// Clear clears a fault about subject.
func (h *Health) Clear(code Code, subject string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clearLocked(key{code, subject})
}

// ClearAll clears the faults about subject with these codes; all faults if no code is given.
func (h *Health) ClearAll(subject string, codes ...Code) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.currentLocked() {
		if f.Subject == subject && (len(codes) == 0 || slices.Contains(codes, f.Fault.Code)) {
			h.clearLocked(key{f.Fault.Code, subject})
		}
	}
}

func (h *Health) clearLocked(k key) {
	f, known := h.now[k]
	if !known {
		return
	}
	delete(h.now, k)
	if f.told {
		f.Raised = false
		h.notify(f.Change)
	}
}

// subjectLocked returns what is known of a subject.
func (h *Health) subjectLocked(name string) Subject {
	if s, ok := h.subjects[name]; ok {
		return s
	}
	return Subject{Name: name, Kind: Part}
}

// uponLocked returns the names of the subjects that are on another, in order.
func (h *Health) uponLocked(name string) (upon []string) {
	for _, s := range h.subjects {
		if s.On == name && name != "" {
			upon = append(upon, s.Name)
		}
	}
	slices.Sort(upon)
	return upon
}

// causeLocked returns the fault that explains another, or nil.
func (h *Health) causeLocked(f *fault) *fault {
	for _, code := range f.Fault.DependsOn {
		for _, subject := range []string{f.Subject, h.subjectLocked(f.Subject).On} {
			if cause, ok := h.now[key{code, subject}]; ok {
				return cause
			}
		}
	}
	return nil
}

// CureOf returns what to do about a fault of subject, raised or not.
func (h *Health) CureOf(code Code, subject string) string {
	if h == nil {
		return Lookup(code).Cure
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return Lookup(code).CureOf(h.subjectLocked(subject).Place)
}

// Current returns the raised faults, ordered by subject and code.
func (h *Health) Current() []Explained {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Explained, 0, len(h.now))
	for _, f := range h.currentLocked() {
		e := Explained{Change: f.Change}
		if cause := h.causeLocked(f); cause != nil {
			by := cause.Change
			e.By = &by
		}
		all = append(all, e)
	}
	return all
}

func (h *Health) currentLocked() []*fault {
	all := make([]*fault, 0, len(h.now))
	for _, f := range h.now {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *fault) int {
		return strings.Compare(a.Subject+" "+string(a.Fault.Code), b.Subject+" "+string(b.Fault.Code))
	})
	return all
}

// Summary returns one line for STATUS=: "all well", or the faults that no other fault
// explains.
func (h *Health) Summary() string {
	var parts []string
	for _, e := range h.Current() {
		if e.By == nil {
			parts = append(parts, fmt.Sprintf("%s: %s", e.Subject, e.Fault.Title))
		}
	}
	if len(parts) == 0 {
		return "all well"
	}
	return strings.Join(parts, "; ")
}
