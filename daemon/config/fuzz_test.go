package config

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"fieldpost/daemon/visible"
)

// yamlBreak is what the YAML reader counts as the end of a line.
var yamlBreak = regexp.MustCompile("[\r\n\u0085\u2028\u2029]")

// longestReason bounds a message, in bytes. The longest one lists all chips.
const longestReason = 1000

// FuzzParse: whatever the bytes are, there is a configuration or a list of
// errors that each name the file and a line, in order, few and short. What is accepted, the
// schema accepts too.
func FuzzParse(f *testing.F) {
	for _, tt := range refusals {
		f.Add([]byte(base + tt.text))
	}
	f.Add([]byte(base))
	f.Add([]byte("? [a]\n: b\n"))
	f.Add([]byte("{thing: &a {}, broker: *a, <<: *a}"))
	f.Add([]byte("sensors:\n- - -\n- {}\n"))
	f.Add([]byte(strings.Repeat("[", 300)))
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nthing: *c\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("{" + strings.Repeat("a,", 300) + "}"))
	f.Add([]byte("thing: !!binary /w==\nbroker: !<tag:yaml.org,2002:map> {}\n%TAG ! a\n---\n"))
	f.Add([]byte("thing: \"\\xff\\ud800\\U0010ffff\\0\"\nspool: {dir: |2-\n  x\n}\n"))
	f.Add([]byte("thing: \xff\xfe\n"))
	f.Add([]byte("\xef\xbb\xbfthing: a\n\xef\xbb\xbfbroker: b\n"))
	f.Add([]byte(strings.Repeat("? - {", 100)))
	file, schema := place(f), compiled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(file, data)
		if err == nil {
			if err := validate(schema, data); err != nil && !errors.Is(err, errNotJSON) {
				t.Fatalf("the schema refuses what is accepted: %v", err)
			}
			if c == nil || c.Thing == "" || c.Broker.Endpoint == "" || c.Readings.Topic == "" || c.Broker.ClientID == "" {
				t.Fatalf("accepted with a required value empty: %+v", c)
			}
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 || len(all) > maxReported+1 {
			t.Fatalf("%T is not Errors, or %d of them", err, len(all))
		}
		lines, last := 1+len(yamlBreak.FindAll(data, -1)), 1
		for _, e := range all {
			if e.File != file || e.Line < last || e.Line > lines || e.Reason == "" || strings.ContainsFunc(e.Error(), visible.Hidden) || len(e.Error()) > longestReason {
				t.Fatalf("bad error %#v", e)
			}
			last = e.Line
		}
	})
}
