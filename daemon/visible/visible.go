// Package visible makes text that comes from outside fit to be printed: no file
// and no message can move a terminal's cursor, change its title or hide what
// stands before it.
package visible

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text gives a text of one line as it is, or quoted as Go quotes where it would
// not be seen as it is: with control characters, direction marks, bytes that are
// no UTF-8, or white space at an end.
func Text(s string) string {
	if strings.TrimSpace(s) != s || !utf8.ValidString(s) || strings.ContainsFunc(s, Hidden) {
		return strconv.Quote(s)
	}
	return s
}

// Lines is like [Text] for what may have several lines: line ends and tabs stay,
// and white space at the ends.
func Lines(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return Hidden(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return strconv.Quote(s)
	}
	return s
}

// Hidden reports whether a character is not seen as it is.
func Hidden(r rune) bool { return !unicode.IsPrint(r) }
