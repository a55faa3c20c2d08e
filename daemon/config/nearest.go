package config

import (
	"fmt"
	"strings"
)

// unknown returns the reason for a word that is not among known, with the one that was
// probably meant.
func unknown(what, word string, known []string) string {
	msg := fmt.Sprintf("unknown %s %q", what, printable(word))
	if near := nearest(word, known); near != "" {
		return msg + fmt.Sprintf(", did you mean %q?", near)
	}
	return msg + ", want one of " + strings.Join(known, ", ")
}

// unknownChip is unknown for chips. A chip with another number is another chip, not a typing
// error: to somebody who has a BME680, "bme280" is no help.
func unknownChip(name string, known []string) string {
	number := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < '0' || r > '9' {
				return -1
			}
			return r
		}, s)
	}
	if near := nearest(name, known); near != "" && number(near) == number(name) {
		return fmt.Sprintf("unknown chip %q, did you mean %q?", printable(name), near)
	}
	return fmt.Sprintf("unknown chip %q; fieldpost knows %s", printable(name), strings.Join(known, ", "))
}

// nearest returns the known word that word is probably a misspelling of, or "".
func nearest(word string, known []string) string {
	if len(word) > 40 {
		return ""
	}
	plain := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(word))
	best, least := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := distance(plain, strings.ReplaceAll(k, "-", "_")); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance returns the Levenshtein distance: how many bytes must be inserted, deleted or
// changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
