package visible

import "testing"

func TestVisible(t *testing.T) {
	for in, want := range map[string]struct{ text, lines string }{
		"":                   {"", ""},
		"certs/key.pem":      {"certs/key.pem", "certs/key.pem"},
		"Küche 21 °C":        {"Küche 21 °C", "Küche 21 °C"},
		" a":                 {`" a"`, " a"},
		"{\n\t\"a\": 1\r\n}": {`"{\n\t\"a\": 1\r\n}"`, "{\n\t\"a\": 1\r\n}"},
		"a\x1b[2J":           {`"a\x1b[2J"`, `"a\x1b[2J"`},
		"a\u009b2J":          {`"a\u009b2J"`, `"a\u009b2J"`},
		"a\u202eb":           {`"a\u202eb"`, `"a\u202eb"`},
		"a\u200bb":           {`"a\u200bb"`, `"a\u200bb"`},
		"a\x00":              {`"a\x00"`, `"a\x00"`},
		"\xff":               {`"\xff"`, `"\xff"`},
		"a\x7f":              {`"a\x7f"`, `"a\x7f"`},
	} {
		if got := Text(in); got != want.text {
			t.Errorf("text %q: %s, want %s", in, got, want.text)
		}
		if got := Lines(in); got != want.lines {
			t.Errorf("lines %q: %s, want %s", in, got, want.lines)
		}
	}
}
