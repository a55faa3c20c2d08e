package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"fieldpost/daemon/visible"
)

// Error is one problem of a configuration file.
type Error struct {
	File   string // the file, as it was given
	Line   int    // from 1; 0 if the file could not be read at all
	Path   string // the path of the key: "sensors[2].address"; empty for the file as a whole
	Reason string // what is wrong, or what is expected
	Value  string // the given value, if that helps; never a secret
	Err    error  // the system's error, or nil
}

// Error returns the problem in one line:
//
//	fieldpost.yaml:14: sensors[2].address: want 0x03 to 0x77 (got 0x90)
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(visible.Text(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Path != "" {
		b.WriteString(": " + e.Path)
	}
	b.WriteString(": " + e.Reason)
	if e.Value != "" {
		fmt.Fprintf(&b, " (got %s)", printable(e.Value))
	}
	return b.String()
}

// Unwrap returns the system's error, so that errors.Is finds fs.ErrNotExist.
func (e *Error) Unwrap() error { return e.Err }

// Errors are the problems of a file, sorted by line. If there are more than twenty, the last
// one gives the number of the others.
type Errors []*Error

// Error returns one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// sort orders by line; problems of one line stay in the order they were found.
func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
}

// problemList collects the problems of one file.
type problemList struct {
	file    string
	refused map[string]bool // the paths of errs
	errs    Errors          // the problems so far; once there are many, the first by line
	dropped int             // number of problems that are not in errs
	from    int             // the first line of a dropped problem
}

// failLine reports a problem of the file as a whole.
func (p *problemList) failLine(line int, reason string) { p.add(line, "", reason, "") }

// add reports a problem in a line.
func (p *problemList) add(line int, path, reason, value string) {
	p.addErr(&Error{Line: line, Path: path, Reason: reason, Value: value})
}

// maxReported bounds the problems that are reported at once.
const maxReported = 20

// addErr adds a problem. It keeps only as many as are reported, because a bad file may have a
// hundred thousand.
func (p *problemList) addErr(e *Error) {
	e.File, e.Line = p.file, max(e.Line, 1)
	p.refused[e.Path] = true
	if p.errs = append(p.errs, e); len(p.errs) >= 2*maxReported {
		p.truncate()
	}
}

// truncate drops the problems that are not reported, and counts them.
func (p *problemList) truncate() {
	p.errs.sort()
	if len(p.errs) <= maxReported {
		return
	}
	if line := p.errs[maxReported].Line; p.dropped == 0 || line < p.from {
		p.from = line
	}
	p.dropped += len(p.errs) - maxReported
	p.errs = p.errs[:maxReported]
}

// reported returns the problems to report, and the number of the others.
func (p *problemList) reported() Errors {
	p.truncate()
	if p.dropped == 0 {
		return p.errs
	}
	what := fmt.Sprintf("and %d more problems from this line on; fix the ones above first", p.dropped)
	if p.dropped == 1 {
		what = "and one more problem here; fix the ones above first"
	}
	return append(p.errs, &Error{File: p.file, Line: p.from, Reason: what})
}

// sound reports whether a path has no problem so far. Later checks use it, so that each
// mistake is reported once.
func (p *problemList) sound(path string) bool { return !p.refused[path] }

// maxShown bounds the part of a user's value that an error shows, in bytes.
const maxShown = 60

// printable shortens a value so that it fits on one line of a terminal, and quotes it if it
// has characters that would not be visible.
func printable(v string) string {
	if len(v) > maxShown {
		cut := maxShown
		for cut > 0 && !utf8.RuneStart(v[cut]) {
			cut--
		}
		v = v[:cut] + "..."
	}
	return visible.Text(v)
}
