package awsiot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// kind is what one token of a pattern stands for.
type kind byte

const (
	literal  kind = iota // text, as it is
	any1                 // ?, one character
	anyN                 // *, any characters
	variable             // ${...}, the connection's own value
)

type token struct {
	kind kind
	text string // of a literal, or the variable's name
}

// pattern is a resource, a segment of one, an action or a value, taken apart.
type pattern []token

// compile takes a pattern apart. Where wild is false, * and ? are letters like
// any other. A variable with a name that nobody knows is kept: it has no value.
func compile(s string, wild bool) (pattern, error) {
	var p pattern
	text := func(s string) {
		if n := len(p); n > 0 && p[n-1].kind == literal {
			p[n-1].text += s
		} else if s != "" {
			p = append(p, token{literal, s})
		}
	}
	special := "$"
	if wild {
		special = "*?$"
	}
	for s != "" {
		i := strings.IndexAny(s, special)
		if i < 0 {
			i = len(s)
		}
		text(s[:i])
		switch s = s[i:]; {
		case s == "":
		case s[0] == '*':
			p, s = append(p, token{kind: anyN}), s[1:]
		case s[0] == '?':
			p, s = append(p, token{kind: any1}), s[1:]
		case !strings.HasPrefix(s, "${"):
			text("$") // as in $aws/things/...
			s = s[1:]
		default:
			name, rest, ok := strings.Cut(s[2:], "}")
			switch {
			case !ok:
				return nil, fmt.Errorf("%q has no closing brace", shorten(s))
			case name == "*" || name == "?" || name == "$":
				text(name)
			case name == "":
				return nil, errors.New("${} names no variable")
			default:
				p = append(p, token{variable, name})
			}
			s = rest
		}
	}
	return p, nil
}

// escape writes a text so that a pattern takes it as it is.
func escape(s string) string {
	return strings.NewReplacer("*", "${*}", "?", "${?}", "${", "${$}{").Replace(s)
}

// wild reports whether a pattern has a wildcard.
func (p pattern) wild() bool {
	return slices.ContainsFunc(p, func(t token) bool { return t.kind == anyN || t.kind == any1 })
}

// variables are the names of a pattern's variables.
func (p pattern) variables() (names []string) {
	for _, t := range p {
		if t.kind == variable {
			names = append(names, t.text)
		}
	}
	return names
}

// fill puts a connection's values in the place of variables. One that has no
// value leaves its text in place; missing says which and why, and the pattern
// must not be taken as matching anything.
func (p pattern) fill(q *question) (filled pattern, missing string) {
	for i, t := range p {
		if t.kind != variable {
			continue
		}
		if filled == nil {
			filled = slices.Clone(p)
		}
		v := q.value(t.text)
		switch {
		case v.several:
			missing = fmt.Sprintf("${%s} has no value: it is a list, which only a condition can use", t.text)
		case len(v.all) == 0:
			missing = fmt.Sprintf("${%s} has no value: %s", t.text, v.why)
		default:
			if v.inferred != "" {
				q.note(v.inferred)
			}
			filled[i] = token{literal, v.all[0]}
			continue
		}
		filled[i] = token{literal, "${" + t.text + "}"}
	}
	if filled == nil {
		return p, ""
	}
	return filled, missing
}

// matches compares the whole of s with a filled pattern. It goes back only to
// the last star, so its work is bounded by the product of both lengths.
func (p pattern) matches(s string) bool {
	i, pos := 0, 0
	star, mark := -1, 0
	for {
		if i < len(p) && p[i].kind == anyN {
			star, mark = i, pos
			i++
			continue
		}
		if i == len(p) && pos == len(s) {
			return true
		}
		if i < len(p) {
			if n, ok := p[i].step(s[pos:]); ok {
				i, pos = i+1, pos+n
				continue
			}
		}
		if star < 0 || mark == len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[mark:])
		mark += n
		i, pos = star+1, mark
	}
}

// step is how many bytes at the start of s this token takes.
func (t token) step(s string) (int, bool) {
	if t.kind == literal {
		return len(t.text), strings.HasPrefix(s, t.text)
	}
	if s == "" {
		return 0, false
	}
	_, n := utf8.DecodeRuneInString(s)
	return n, true
}
