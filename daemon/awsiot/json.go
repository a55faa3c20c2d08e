package awsiot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// node is one JSON value with the place where it begins. encoding/json keeps no
// places, takes a key twice and repairs broken text, so the tree is built here
// from a document that encoding/json has found well formed.
type node struct {
	at      int    // offset of its first byte
	kind    byte   // '{', '[', '"', '0' for a number, 't', 'f' or 'n'
	text    string // of a string, decoded; of anything else, as written
	members []member
	items   []*node
}

// member is one key of an object with its value.
type member struct {
	key   string
	at    int // offset of the key
	value *node
}

// describe names a value for an error.
func (n *node) describe() string {
	switch n.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return strconv.Quote(shorten(n.text))
	}
	return shorten(n.text)
}

// shorten cuts a text that is too long for an error.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// parseJSON reads one JSON value that fills the document. The error's offset is
// where the document is broken.
func parseJSON(document []byte) (root *node, at int, err error) {
	if bytes.HasPrefix(document, []byte("\xef\xbb\xbf")) {
		return nil, 0, errors.New("begins with a byte order mark; save it as UTF-8 without one")
	}
	for i := 0; i < len(document); {
		r, n := utf8.DecodeRune(document[i:])
		if r == utf8.RuneError && n == 1 {
			return nil, i, errors.New("the text is not UTF-8")
		}
		i += n
	}
	if len(bytes.TrimSpace(document)) == 0 {
		return nil, 0, errors.New("is empty")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(document, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = min(max(int(syntax.Offset)-1, 0), len(document))
		}
		if strings.HasPrefix(err.Error(), "unexpected end") {
			at = len(document)
		}
		reason := strings.TrimPrefix(err.Error(), "json: ")
		if _, where, ok := strings.Cut(reason, "' "); ok && strings.HasPrefix(reason, "invalid character '") {
			r, _ := utf8.DecodeRune(document[at:]) // encoding/json names its first byte
			reason = fmt.Sprintf("invalid character %q %s", r, where)
		}
		return nil, at, fmt.Errorf("is not JSON: %s", reason)
	}
	s := &scanner{text: document}
	root = s.value()
	return root, s.bad, s.err
}

// scanner walks over a document that is well formed.
type scanner struct {
	text []byte
	i    int
	bad  int   // where err is
	err  error // the first text that JSON allows and nobody can mean
}

func (s *scanner) space() {
	for s.i < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.i]) >= 0 {
		s.i++
	}
}

// next skips white space and one of the characters.
func (s *scanner) next(any string) bool {
	s.space()
	if s.i < len(s.text) && strings.IndexByte(any, s.text[s.i]) >= 0 {
		s.i++
		return true
	}
	return false
}

func (s *scanner) value() *node {
	s.space()
	n := &node{at: s.i, kind: s.text[s.i]}
	switch n.kind {
	case '{':
		s.i++
		for !s.next("}") {
			s.next(",")
			s.space()
			m := member{at: s.i}
			m.key = s.string()
			s.next(":")
			m.value = s.value()
			n.members = append(n.members, m)
		}
	case '[':
		s.i++
		for !s.next("]") {
			s.next(",")
			n.items = append(n.items, s.value())
		}
	case '"':
		n.text = s.string()
	default:
		for s.i < len(s.text) && strings.IndexByte(" \t\r\n,]}", s.text[s.i]) < 0 {
			s.i++
		}
		n.text = string(s.text[n.at:s.i])
		if n.kind == '-' || n.kind >= '0' && n.kind <= '9' {
			n.kind = '0'
		}
	}
	return n
}

// string reads a string and notes half of a surrogate pair: encoding/json puts
// another character in its place, which would change what the policy says.
func (s *scanner) string() string {
	begin := s.i
	for s.i++; s.text[s.i] != '"'; s.i++ {
		if s.text[s.i] == '\\' {
			s.i++
		}
	}
	s.i++
	raw := s.text[begin:s.i]
	var out string
	if err := json.Unmarshal(raw, &out); err != nil && s.err == nil {
		s.bad, s.err = begin, err
	}
	if strings.ContainsRune(out, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) && s.err == nil {
		if !strings.Contains(strings.ToLower(string(raw)), `\ufffd`) {
			s.bad, s.err = begin, errors.New(`holds half of a surrogate pair (\ud800 to \udfff), which is no character`)
		}
	}
	if i := strings.IndexFunc(out, unicode.IsControl); i >= 0 && s.err == nil {
		r, _ := utf8.DecodeRuneInString(out[i:])
		s.bad, s.err = begin, fmt.Errorf("holds the control character %U, which no name has", r)
	}
	return out
}

// position gives the line and the column of an offset, both from 1; columns
// count characters.
func position(document []byte, at int) (line, column int) {
	before := document[:min(at, len(document))]
	line = 1 + bytes.Count(before, []byte("\n"))
	return line, 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
}
