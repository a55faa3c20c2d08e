package awsiot

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The variables that a resource may hold.
const (
	varClientID  = "iot:ClientId"
	varThingName = "iot:Connection.Thing.ThingName"
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

// pattern is a resource, or a segment of one, taken apart.
type pattern []token

// compile takes a pattern apart. Only a variable that we can fill is accepted.
func compile(s string) (pattern, error) {
	var p pattern
	text := func(s string) {
		if n := len(p); n > 0 && p[n-1].kind == literal {
			p[n-1].text += s
		} else if s != "" {
			p = append(p, token{literal, s})
		}
	}
	for s != "" {
		i := strings.IndexAny(s, "*?$")
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
			if !ok {
				return nil, fmt.Errorf("%q has no closing brace", s)
			}
			switch name {
			case varClientID, varThingName:
				p = append(p, token{variable, name})
			case "*", "?", "$":
				text(name)
			default:
				return nil, fmt.Errorf("the variable ${%s} is not supported", name)
			}
			s = rest
		}
	}
	return p, nil
}

// fill puts a connection's values in the place of variables. It is not ok when
// one has no value: AWS IoT then takes the statement as not matching.
func (p pattern) fill(v Vars) (filled pattern, ok bool) {
	for i, t := range p {
		if t.kind != variable {
			continue
		}
		if filled == nil {
			filled = append(pattern{}, p...)
		}
		value := v.ClientID
		if t.text == varThingName {
			value = v.ThingName
		}
		if value == "" {
			return nil, false
		}
		filled[i] = token{literal, value}
	}
	if filled == nil {
		return p, true
	}
	return filled, true
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
