package page

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// talk is a broker with one subscriber, and what was published.
type talk struct {
	mu        sync.Mutex
	filter    string
	see       func(Message)
	published []Message
}

func newConsole(t *testing.T, address string) (*site, *talk) {
	t.Helper()
	b := &talk{}
	x := newSite(t, address)
	o := x.o
	o.Console = &Console{
		Watch: func(filter string, see func(Message)) (func(), error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.filter, b.see = filter, see
			return func() {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.see = nil
			}, nil
		},
		Publish: func(m Message) error {
			if m.Topic == "full" {
				return errors.New("the broker is full")
			}
			b.published = append(b.published, m)
			return nil
		},
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.ctx = t.Context()
	x.Server = s
	return x, b
}

func (b *talk) now() (filter string, see func(Message)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.filter, b.see
}

// Without a console there are no such paths.
func TestNoConsole(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	cookie := x.login(t)
	if w := x.ask("GET", "/mqtt?filter=a", ""); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
	if w := x.ask("POST", "/mqtt", `{"topic":"a","payload":"b"}`, "Cookie", cookie); w.Code != 405 && w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
}

// What may be published is, once; what may not is refused with its reason.
func TestPublish(t *testing.T) {
	x, b := newConsole(t, "127.0.0.1:8080")
	const hello = `{"topic":"test/topic","payload":"hello","qos":1,"retain":true}`
	if w := x.ask("POST", "/mqtt", hello); w.Code != http.StatusUnauthorized {
		t.Errorf("without the token: %d", w.Code)
	}
	cookie := x.login(t)
	if w := x.ask("POST", "/mqtt", hello, "Cookie", cookie, "Origin", "http://evil.example"); w.Code != http.StatusForbidden {
		t.Errorf("from another page: %d", w.Code)
	}
	for body, want := range map[string]string{
		`{"topic":"","payload":"a"}`:                                     "is empty",
		`{"topic":"a/#","payload":"a"}`:                                  "has a wildcard",
		`{"topic":"a","payload":"a","qos":2}`:                            "want 0 or 1",
		`{"topic":"a/b/c/d/e/f/g/h/i","payload":"a"}`:                    "has 8 slashes",
		`{"topic":"full","payload":"a"}`:                                 "the broker is full",
		`{"topic":"a","payload":"` + strings.Repeat("a", maxBody) + `"}`: "larger than 4 KB",
		`{"topic":"a","payload":"a","expires":"2026-11-29T08:00:00Z"}`:   "unknown field",
		`{"topic":"a","payload":{"not":"text"}}`:                         "payload",
		"{\"topic\":\"a\\u0000\",\"payload\":\"a\"}":                     "control characters",
	} {
		if w := x.ask("POST", "/mqtt", body, "Cookie", cookie); w.Code < 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%.60s: %d %s", body, w.Code, w.Body)
		}
	}
	if len(b.published) > 0 {
		t.Errorf("published: %v", b.published)
	}
	x.now = x.now.Add(time.Second)
	refused := 0
	for range mostPublished + 3 {
		if w := x.ask("POST", "/mqtt", hello, "Cookie", cookie); w.Code == http.StatusTooManyRequests {
			refused++
		} else if w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if m := b.published[0]; refused != 3 || len(b.published) != mostPublished || m.Topic != "test/topic" || string(m.Payload) != "hello" || m.QoS != 1 || !m.Retained {
		t.Errorf("%d refused; %v", refused, b.published)
	}
	x.now = x.now.Add(time.Second)
	if w := x.ask("POST", "/mqtt", hello, "Cookie", cookie); w.Code != http.StatusOK {
		t.Errorf("in the next second: %d %s", w.Code, w.Body)
	}
}

// A payload is text, whatever it is, and not too much of it.
func TestShow(t *testing.T) {
	now := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		payload, kind, text string
		cut                 bool
	}{
		{`{"a":1,"b":[true]}`, "JSON", "{\n  \"a\": 1,\n  \"b\": [\n    true\n  ]\n}", false},
		{`{"n":12345678901234567890.10,"n":2}`, "JSON", "{\n  \"n\": 12345678901234567890.10,\n  \"n\": 2\n}", false},
		{"hello", "text", "hello", false},
		{"", "text", "", false},
		{"<script>alert(1)</script>", "text", "<script>alert(1)</script>", false},
		{"a\x1b[2J\u202eb", "text", `"a\x1b[2J\u202eb"`, false},
		{"\xff\x00", "bytes", "00000000  ff 00                                             |..|\n", false},
		{strings.Repeat("x", mostShown-1) + "\u00e9y", "text", strings.Repeat("x", mostShown-1), true},
	} {
		if s := show(Message{Topic: "t", Payload: []byte(c.payload)}, now); s.Kind != c.kind || s.Text != c.text || s.Cut != c.cut || s.Size != len(c.payload) {
			t.Errorf("%.40q: %.200q", c.payload, fmt.Sprint(s))
		}
	}
	for what, payload := range map[string]string{
		"bytes":       strings.Repeat("\xff", 128<<10),
		"deep JSON":   strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
		"wide JSON":   "[" + strings.Repeat("1,", 60_000) + "1]",
		"hidden text": strings.Repeat("\u202e", 40_000),
	} {
		if s := show(Message{Payload: []byte(payload)}, now); len(s.Text) > 2*mostPretty {
			t.Errorf("%s: %d bytes", what, len(s.Text))
		}
	}
}

// A browser gets the messages of its filter; of a flood it gets some, and the number of the
// others; and one that goes, or that does not read, ends its subscription.
func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, b := newConsole(t, "127.0.0.1:8080")
		x.o.Now = time.Now
		p := x.serving(t)
		if w := x.ask("GET", "/mqtt?filter=a%23", ""); w.Code != 400 || !strings.Contains(w.Body.String(), "may have # only") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		c := p.dial("127.0.0.1:1")
		fmt.Fprintf(c, "GET /mqtt?filter=test/%%23 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r := bufio.NewReader(c)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != 200 {
			t.Fatal(answer, err)
		}
		lines := bufio.NewScanner(answer.Body)
		next := func() (s seen) {
			t.Helper()
			for lines.Scan() {
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					if err := json.Unmarshal([]byte(data), &s); err != nil {
						t.Fatal(err)
					}
					return s
				}
			}
			t.Fatal("the stream has ended")
			return s
		}
		lines.Scan() // that it has subscribed
		synctest.Wait()
		filter, see := b.now()
		if filter != "test/#" {
			t.Fatalf("filter %q", filter)
		}
		see(Message{Topic: "test/topic", Payload: []byte(`{"a":1}`), QoS: 1, Retained: true})
		if s := next(); s.Topic != "test/topic" || s.Text != "{\n  \"a\": 1\n}" || s.QoS != 1 || !s.Retained || s.Time.IsZero() {
			t.Errorf("%+v", s)
		}
		for n := range 10_000 {
			see(Message{Topic: "test/topic", Payload: fmt.Append(nil, n)})
		}
		for range mostPerSecond - 1 {
			if s := next(); s.Skipped != 0 {
				t.Errorf("%+v", s)
			}
		}
		second := time.NewTimer(time.Second)
		<-second.C
		see(Message{Topic: "test/topic", Payload: []byte("after")})
		if s := next(); s.Text != "after" || s.Skipped != 10_000-(mostPerSecond-1) {
			t.Errorf("after the flood: %+v", s)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, see := b.now(); see != nil {
			t.Error("the subscription of one who has gone is still there")
		}

		c = p.dial("127.0.0.1:2") // and reads nothing
		fmt.Fprintf(c, "GET /mqtt?filter=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
		synctest.Wait()
		if _, see := b.now(); see == nil {
			t.Fatal("not subscribed")
		}
		late := time.NewTimer(patience + time.Second)
		<-late.C
		synctest.Wait()
		_, see = b.now()
		if _, streams := x.taken(); see != nil || streams != 0 {
			t.Error("the subscription of one who does not read is still there")
		}
	})
}
