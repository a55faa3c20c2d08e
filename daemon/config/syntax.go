package config

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"
)

// yamlPrefix matches the beginning of the YAML parser's messages, with the line if it has one.
var yamlPrefix = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^yaml: (?:line (\d+): )?`) })

// plainReasons has plainer words for messages of the YAML parser.
var plainReasons = []struct{ have, say string }{
	{"found a tab character", tabReason},
	{"found character that cannot start any token", "a value cannot begin with %, @ or ` outside quotes"},
	{"mapping values are not allowed in this context", "a second \": \" in one line, or an indentation that does not fit the line above"},
	{"could not find expected ':'", "want \"key: value\"; a colon and a space are missing"},
	{"did not find expected key", "an indentation that does not fit the lines above, or something after a closing quote"},
	{"did not find expected '-' indicator", "an indentation that does not fit the list above"},
	{"found unexpected end of stream", "a quote is opened here and never closed"},
	{"control characters are not allowed", "an invisible control character; delete it"},
}

const tabReason = "a tab where YAML requires spaces"

// syntaxReason returns the reason why a file is not YAML. line is the text of the line at
// which it stops being YAML.
func syntaxReason(err error, line string) string {
	if strings.HasPrefix(strings.TrimLeft(line, " "), "\t") {
		return tabReason
	}
	msg := yamlPrefix().ReplaceAllString(err.Error(), "")
	for _, s := range plainReasons {
		if strings.Contains(msg, s.have) {
			return s.say
		}
	}
	return "is not YAML: " + msg
}

// lineOf returns the text of line n, counted from 1.
func lineOf(data []byte, n int) string {
	ends := lineEnds(data)
	if n < 1 || n > len(ends) {
		return ""
	}
	from := 0
	if n > 1 {
		from = ends[n-2]
	}
	return string(data[from:ends[n-1]])
}

// searchable bounds the exact search for the line of an error, which parses the file once per
// line. It is the total number of bytes parsed. A file of 300 lines of 30 bytes needs at most
// a third of it.
const searchable = 4 << 20

// errorLine returns the line at which a file stops being YAML. The YAML parser reports only
// the start of the construct that it was parsing, or nothing. So errorLine cuts off more and
// more lines: the error is in the line after the longest beginning that can be parsed. If
// that would take too long, it uses the parser's line.
func errorLine(data []byte, err error) int {
	ends := lineEnds(data)
	n, left := len(ends)-1, searchable
	for ; n > 0 && left >= ends[n-1]; n-- {
		left -= ends[n-1]
		if _, err := documents(data[:ends[n-1]]); err == nil {
			return n + 1
		}
	}
	if n <= 0 {
		return 1
	}
	if m := yamlPrefix().FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return min(max(n, 1), len(ends))
		}
	}
	return 1
}

// lineEnds returns the offset of the end of each line.
func lineEnds(data []byte) (ends []int) {
	for at := 0; at < len(data); {
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			return append(ends, len(data))
		}
		at += n + 1
		ends = append(ends, at)
	}
	return ends
}

// plain refuses everything in YAML other than keys, values and lists.
func (l *loader) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		l.failLine(n.Line, "aliases (*"+printable(n.Value)+") are not supported; write the value out")
		return
	case n.Anchor != "":
		l.failLine(n.Line, "anchors (&"+printable(n.Anchor)+") are not supported; write the value out where it is needed")
	case n.Style&yaml.TaggedStyle != 0:
		l.failLine(n.Line, "tags ("+printable(n.Tag)+") are not supported; write the plain value")
	case isMerge(n):
		l.failLine(n.Line, "merge keys (<<) are not supported; write the keys out")
	}
	for _, c := range n.Content {
		l.plain(c)
	}
}

func isMerge(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "<<" && n.ShortTag() == "!!merge"
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
