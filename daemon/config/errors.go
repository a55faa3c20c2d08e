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
	Line   int    // from 1; 0 where the file could not be read at all
	Path   string // the key it is about: "sensors[2].address"; empty for the file itself
	Reason string // what is wrong, or what is wanted
	Value  string // what was given, where that helps; never a secret
	Err    error  // what the system said, or nil
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

// Unwrap returns what the system said, so that errors.Is finds fs.ErrNotExist.
func (e *Error) Unwrap() error { return e.Err }

// Errors are the problems of a file, by line: all of them, or the first twenty
// and one that says how many there are besides.
type Errors []*Error

// Error returns one problem a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems one by one.
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

// widest is how much of a user's value an error repeats.
const widest = 60

// printable returns a value fit for one line of a terminal: short, and quoted
// where it would not be seen as it is.
func printable(v string) string {
	if len(v) > widest {
		cut := widest
		for cut > 0 && !utf8.RuneStart(v[cut]) {
			cut--
		}
		v = v[:cut] + "..."
	}
	return visible.Text(v)
}
