package config

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// yamlBreak is what the YAML reader counts as the end of a line.
var yamlBreak = regexp.MustCompile("[\r\n\u0085\u2028\u2029]")

// FuzzParse: whatever the bytes are, there is a configuration or a list of
// errors that each name the file and a line, in order.
func FuzzParse(f *testing.F) {
	for _, tt := range refusals {
		f.Add([]byte(base + tt.text))
	}
	f.Add([]byte(base))
	f.Add([]byte("? [a]\n: b\n"))
	f.Add([]byte("{thing: &a {}, broker: *a, <<: *a}"))
	f.Add([]byte("sensors:\n- - -\n- {}\n"))
	f.Add([]byte(strings.Repeat("[", 300)))
	file := place(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(file, data)
		if err == nil {
			if c == nil || c.Thing == "" || c.Broker.Endpoint == "" || c.Readings.Topic == "" || c.Broker.ClientID == "" {
				t.Fatalf("accepted with a required value empty: %+v", c)
			}
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("%T is not Errors, or empty", err)
		}
		lines, last := 1+len(yamlBreak.FindAll(data, -1)), 1
		for _, e := range all {
			if e.File != file || e.Line < last || e.Line > lines || e.Reason == "" || strings.Contains(e.Error(), "\n") {
				t.Fatalf("bad error %#v", e)
			}
			last = e.Line
		}
	})
}
