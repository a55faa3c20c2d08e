package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// SetEndpoint returns the text of a configuration with another broker.endpoint. Everything
// else stays as it was, comments included. file is its path, for error messages and for the
// relative paths in it; the files that it names need not exist. If the text is not a valid
// configuration, the error is [Errors].
func SetEndpoint(file string, data []byte, endpoint string) ([]byte, error) {
	const cannot = "broker.endpoint cannot be replaced here: %w; put %q there by hand"
	l := newLoader(file, false)
	before := l.parse(data)
	if len(l.errs) > 0 {
		return nil, l.reported()
	}
	n := l.nodes["broker.endpoint"]
	if n == nil {
		return nil, fmt.Errorf(cannot, errors.New("it has no line of its own"), endpoint)
	}
	out, err := replaceScalar(string(data), n, endpoint)
	if err != nil {
		return nil, fmt.Errorf(cannot, err, endpoint)
	}
	after, err := parse(file, []byte(out), false)
	if err != nil {
		return nil, err
	}
	want := *before
	want.Broker.Endpoint = endpoint
	if !reflect.DeepEqual(&want, after) {
		return nil, fmt.Errorf(cannot, errors.New("other keys would change"), endpoint)
	}
	return []byte(out), nil
}

// replaceScalar replaces a scalar that stands on one line. It keeps the quotes, if there are
// any.
func replaceScalar(text string, n *yaml.Node, value string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	if n.Kind != yaml.ScalarNode || n.Line < 1 || n.Line > len(lines) {
		return "", errors.New("it is not a text on one line")
	}
	line := lines[n.Line-1]
	start := 0
	for range n.Column - 1 { // columns count characters
		_, size := utf8.DecodeRuneInString(line[start:])
		start += size
	}
	old, quote := n.Value, ""
	switch n.Style {
	case yaml.DoubleQuotedStyle:
		quote = `"`
	case yaml.SingleQuotedStyle:
		quote = "'"
	case 0:
	default:
		return "", errors.New("it is not a plain or quoted text on one line")
	}
	old = quote + old + quote
	if !strings.HasPrefix(line[start:], old) {
		return "", errors.New("it is written with escapes, an anchor or a tag")
	}
	if strings.ContainsAny(value, "\"'\\\n") {
		return "", errors.New("the new one is " + strconv.Quote(value))
	}
	lines[n.Line-1] = line[:start] + quote + value + quote + line[start+len(old):]
	return strings.Join(lines, ""), nil
}
