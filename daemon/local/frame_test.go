package local

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os/user"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for line, want := range map[string]request{
		`{"v":1,"call":"status"}`:                         {call: "status"},
		`{"call":"read","with":{"sensor":"air"},"v":1}`:   {call: "read", with: json.RawMessage(`{"sensor":"air"}`)},
		" {\"v\" : 1, \"call\":\"\\u0073tatus\" } \r\n\t": {call: "status"},
		`{"v":1,"call":"order","with":{"id":1,"id":2}}`:   {call: "order", with: json.RawMessage(`{"id":1,"id":2}`)}, // the call's business
	} {
		r, err := decode([]byte(line))
		if err != nil || r.call != want.call || string(r.with) != string(want.with) {
			t.Errorf("%s: got %q with %s, %v", line, r.call, r.with, err)
		}
	}
	for line, want := range map[string]string{
		"":                                    "request is not a JSON object",
		"null":                                "request is not a JSON object",
		"[1]":                                 "request is not a JSON object",
		"\xff":                                "request is not UTF-8",
		"{":                                   "request is not JSON",
		`{"v":1,"call":"status"`:              "request is not JSON",
		`{"v":1,"call":"status",}`:            "request is not JSON",
		`{"v":1,"call":}`:                     "request is not JSON",
		`{"v":1,"call":"status"} {}`:          "more than one JSON value",
		`{"v":1,"call":"a","V":1}`:            `unknown key "V"`,
		`{"v":1,"v":1,"call":"a"}`:            `key "v" stands twice`,
		`{"v":1,"call":"a","call":"b"}`:       `key "call" stands twice`,
		`{"v":1,"call":null,"call":"b"}`:      `key "call" stands twice`,
		`{"call":"status"}`:                   `no version: key "v"`,
		`{"v":1}`:                             `want the name of a call under "call"`,
		`{"v":1,"call":""}`:                   `want the name of a call under "call"`,
		`{"v":1,"call":7}`:                    `want the name of a call under "call"`,
		`{"v":2,"call":"status"}`:             "this daemon speaks version 1 of the protocol (got 2)",
		`{"v":"1","call":"status"}`:           "this daemon speaks version 1 of the protocol",
		`{"v":[1],"call":"status"}`:           "this daemon speaks version 1 of the protocol",
		strings.Repeat("[", 10_000):           "request is not a JSON object",
		`{"v":` + strings.Repeat("[", 20_000): "request is not JSON",
	} {
		if _, err := decode([]byte(line)); err == nil || !strings.Contains(err.Text, want) || err.Hint == "" {
			t.Errorf("%.80s: got %+v, want %s", line, err, want)
		}
	}
	if _, err := decode([]byte(`{"v":2,"call":"a"}`)); err.Code != WrongVersion {
		t.Errorf("another version: %+v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"call":"read","with":{"sensor":"air"}}`))
	f.Add([]byte(`{"v":1,"v":2}`))
	f.Add([]byte(`{"v":1e0,"call":"\ud800"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := decode(line)
		if err != nil {
			if err.Code == "" || err.Text == "" {
				t.Errorf("refused without a reason: %+v", err)
			}
			return
		}
		if r.call == "" || r.with != nil && !json.Valid(r.with) {
			t.Errorf("accepted %q as %q with %q", line, r.call, r.with)
		}
	})
}

func TestArguments(t *testing.T) {
	var v struct {
		Sensor string `json:"sensor"`
	}
	if err := Arguments(json.RawMessage(`{"sensor":"air"}`), &v); err != nil || v.Sensor != "air" {
		t.Errorf("got %+v, %v", v, err)
	}
	for _, with := range []string{"", `{"sensor":1}`, `{"name":"air"}`, `[]`} {
		var said *Error
		if err := Arguments(json.RawMessage(with), &v); !errors.As(err, &said) || said.Code != Malformed {
			t.Errorf("%q: %v", with, err)
		}
	}
}

func TestEncode(t *testing.T) {
	for want, got := range map[string][]byte{
		`{"v":1,"result":{"a":"<b>"}}`:                            encode(map[string]string{"a": "<b>"}, nil),
		`{"v":1,"result":null}`:                                   encode(nil, nil),
		`{"v":1,"error":{"code":"busy","text":"later"}}`:          encode("lost", &Error{Code: Busy, Text: "later"}),
		`{"v":1,"error":{"code":"c","text":"t","hint":"A > b."}}`: encode(nil, &Error{"c", "t", "A > b."}),
	} {
		if string(got) != want+"\n" {
			t.Errorf("got %s want %s", got, want)
		}
	}
	if got := string(encode(math.NaN(), nil)); !strings.Contains(got, `"code":"internal"`) {
		t.Errorf("what has no form in JSON gives %s", got)
	}
}

func TestReadLine(t *testing.T) {
	for text, want := range map[string]string{"a\nb\n": "a\n", "12345678\n": "", "1234567\n": "1234567\n", "12345678": "12345678", "a": "a"} {
		got, err := readLine(strings.NewReader(text), 8)
		if string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	if _, err := readLine(strings.NewReader(""), 8); err != io.EOF {
		t.Errorf("nothing: %v", err)
	}
}

func TestPeer(t *testing.T) {
	lookup := func(name string, err error) func(string) (*user.User, error) {
		return func(uid string) (*user.User, error) {
			if uid != "4000000000" {
				t.Errorf("asked for uid %s", uid)
			}
			return &user.User{Username: name}, err
		}
	}
	p := Peer{UID: 4_000_000_000, PID: 4242}
	for want, named := range map[string]Peer{
		"uid=4000000000(pi) pid=4242":      p.named(lookup("pi", nil)),
		"uid=4000000000 pid=4242":          p.named(lookup("", errors.New("unknown"))),
		"uid=4000000000(_a-b.c$) pid=4242": p.named(lookup("_a-b.c$", nil)),
	} {
		if named.String() != want {
			t.Errorf("got %s, want %s", named, want)
		}
	}
	for _, name := range []string{"root) pid=1", "a b", "", "ü", "a\n", strings.Repeat("a", 33)} {
		if q := p.named(lookup(name, nil)); q.User != "" {
			t.Errorf("%q is shown as %s", name, q)
		}
	}
}
