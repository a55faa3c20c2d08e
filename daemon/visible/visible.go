// Package visible makes text from outside safe to print: no file and no message can move a
// terminal's cursor, change its title or hide the text before it.
package visible

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns a text of one line. It quotes the text like Go if it would not be seen as it
// is: if it has control characters, direction marks or invalid UTF-8, or begins or ends with
// white space.
func Text(s string) string {
	if strings.TrimSpace(s) != s || !utf8.ValidString(s) || strings.ContainsFunc(s, Hidden) {
		return strconv.Quote(s)
	}
	return s
}

// Lines is like [Text] for a text that may have several lines: line ends, tabs and white
// space at the ends are allowed.
func Lines(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return Hidden(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return strconv.Quote(s)
	}
	return s
}

// Hidden reports whether a character would not be seen as it is.
func Hidden(r rune) bool { return !unicode.IsPrint(r) }
