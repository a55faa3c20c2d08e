package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/api"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const theToken = "a token for tests"

// site is a page with what a test needs to see of it.
type site struct {
	*Server
	token  string
	key    string // sent with each request
	err    error
	now    time.Time
	orders []api.Order
	states int
}

func newSite(t *testing.T, address string) *site {
	t.Helper()
	x := &site{token: theToken, now: time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)}
	s, err := New(Options{
		Address: address, Hosts: []string{"greenhouse.local"},
		Token: func() (string, error) { return x.token, x.err },
		State: func() State { x.states++; return State{Status: api.Status{Thing: "thing-1"}} },
		Now:   func() time.Time { return x.now },
		Order: func(_ context.Context, o api.Order, cause string) (any, error) {
			x.orders = append(x.orders, o)
			if o.Output == "moon" {
				return nil, &api.Error{Code: api.Busy, Text: "no room"}
			}
			return api.OrderAnswer{ID: o.ID, Status: "done", Reason: cause}, nil
		},
		History: func(q []byte) (any, error) {
			if bytes.Contains(q, []byte("moon")) {
				return nil, &api.Error{Code: api.NoHistory, Text: "nothing is kept of that"}
			}
			return json.RawMessage(q), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.ctx = t.Context()
	x.Server = s
	return x
}

// ask makes a request; heads are pairs of a header and its value.
func (x *site) ask(method, path, body string, heads ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	r.Header.Set(keyHeader, x.key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(heads); i += 2 {
		if heads[i] == "Host" {
			r.Host = heads[i+1]
			continue
		}
		r.Header.Set(heads[i], heads[i+1])
	}
	w := httptest.NewRecorder()
	x.ServeHTTP(w, r)
	return w
}

// login shows the token and returns the cookie.
func (x *site) login(t *testing.T) string {
	t.Helper()
	w := x.ask("POST", "/session", `{"token":" `+theToken+`\n"}`)
	c := w.Result().Cookies()
	if w.Code != http.StatusOK || len(c) != 1 {
		t.Fatalf("%d %s, %d cookies", w.Code, w.Body, len(c))
	}
	if !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode {
		t.Errorf("cookie %s", c[0])
	}
	var a session
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || a.Key == "" {
		t.Fatalf("%s, %v", w.Body, err)
	}
	x.key = a.Key
	return c[0].Name + "=" + c[0].Value
}

// What another page, another name or a stranger may not do.
func TestRefusals(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	cookie := x.login(t)
	const on = `{"output":"pump","action":"on","for":"30s"}`
	for _, c := range []struct {
		what, method, path, body string
		heads                    []string
		status                   int
		text                     string
	}{
		{"another name for this address", "GET", "/state", "", []string{"Host", "evil.example"}, 421, "not served under that name"},
		{"no name", "GET", "/", "", []string{"Host", ""}, 421, ""},
		{"another page", "POST", "/order", on, []string{"Cookie", cookie, "Origin", "http://evil.example"}, 403, "another page"},
		{"a page of another port", "POST", "/order", on, []string{"Cookie", cookie, "Origin", "http://127.0.0.1:9"}, 403, "another page"},
		{"a page without a name", "POST", "/order", on, []string{"Cookie", cookie, "Origin", "null"}, 403, "another page"},
		{"another site", "POST", "/order", on, []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, 403, "another page"},
		{"another site's login", "POST", "/session", `{"token":"` + theToken + `"}`, []string{"Sec-Fetch-Site", "same-site"}, 403, "another page"},
		{"no cookie", "POST", "/order", on, nil, 401, "show the token first"},
		{"a cookie of our own making", "POST", "/order", on, []string{"Cookie", cookieName + "=99999999999.AAAA"}, 401, "show the token first"},
		{"a cookie with another end", "POST", "/order", on, []string{"Cookie", cookieName + "=9" + strings.TrimPrefix(cookie, cookieName+"=")}, 401, ""},
		{"a cookie that another port has heard", "POST", "/order", on, []string{"Cookie", cookie, keyHeader, ""}, 401, "show the token first"},
		{"a key of our own making", "POST", "/order", on, []string{"Cookie", cookie, keyHeader, "AAAA"}, 401, "show the token first"},
		{"a form", "POST", "/order", on, []string{"Cookie", cookie, "Content-Type", "text/plain"}, 415, "application/json"},
		{"a giant body", "POST", "/order", `{"output":"` + strings.Repeat("x", maxBody) + `"}`, []string{"Cookie", cookie}, 413, "4 KB"},
		{"no JSON", "POST", "/order", "{", []string{"Cookie", cookie}, 400, "body: unexpected EOF"},
		{"a key too many", "POST", "/order", `{"output":"pump","expires":"2030-01-01T00:00:00Z"}`, []string{"Cookie", cookie}, 400, "unknown field"},
		{"a wrong token", "POST", "/session", `{"token":"a token for test"}`, nil, 403, "that is not the token"},
		{"a path outside", "GET", "/../../etc/passwd", "", nil, 307, `href="/etc/passwd"`},
		{"a path outside, escaped", "GET", "/%2e%2e/page.go", "", nil, 404, "no such path"},
		{"a directory", "GET", "/assets/", "", nil, 404, "no such path"},
		{"a malformed query", "GET", "/history?sensor=%zz", "", nil, 400, "malformed"},
		{"a key twice", "GET", "/history?sensor=a&sensor=b", "", nil, 400, "twice"},
		{"no such sensor", "GET", "/history?sensor=moon", "", nil, 404, "nothing is kept"},
		{"another method", "DELETE", "/order", "", nil, 405, ""},
		{"no room", "POST", "/order", `{"output":"moon","action":"on"}`, []string{"Cookie", cookie}, 503, "no room"},
	} {
		orders := len(x.orders)
		w := x.ask(c.method, c.path, c.body, c.heads...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d %s, want %d %q", c.what, w.Code, w.Body, c.status, c.text)
		}
		if len(x.orders) != orders && c.status != 503 {
			t.Errorf("%s was carried out", c.what)
		}
		if h := w.Header(); !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", c.what, h)
		}
	}
}

// An order of the page is like any other: it has an id, and ends soon by the board's clock.
func TestOrder(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	cookie := x.login(t)
	for range 2 {
		w := x.ask("POST", "/order", `{"output":"fan","action":"set","level":40,"for":"30s"}`, "Cookie", cookie, "Origin", "http://127.0.0.1:8080", "Sec-Fetch-Site", "same-origin")
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"reason":"page from 192.0.2.1"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	a, b := x.orders[0], x.orders[1]
	if a.Output != "fan" || a.Action != "set" || *a.Level != 40 || a.For != "30s" || !a.Expires.Equal(x.now.Add(orderLife)) || a.ID == b.ID || !strings.HasPrefix(a.ID, "page-") {
		t.Errorf("orders %+v, %+v", a, b)
	}
}

// An order names its browser's address, and the name that was given with the token. A name
// that would not look like one is refused, and none can be put into the cookie.
func TestWho(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	who := func(cookie string) string {
		w := x.ask("POST", "/order", `{"output":"pump","action":"on"}`, "Cookie", cookie)
		var a api.OrderAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK {
			return fmt.Sprint(w.Code)
		}
		return a.Reason
	}
	for name, want := range map[string]string{"": "page from 192.0.2.1", "  ": "page from 192.0.2.1", "Anna": "page from 192.0.2.1 (Anna)", " Käthe 2-b_c.d ": "page from 192.0.2.1 (Käthe 2-b_c.d)"} {
		body, err := json.Marshal(map[string]string{"token": theToken, "name": name})
		if err != nil {
			t.Fatal(err)
		}
		w := x.ask("POST", "/session", string(body))
		var s session
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%q: %d %s", name, w.Code, w.Body)
		}
		x.key = s.Key
		c := w.Result().Cookies()[0]
		if got := who(c.Name + "=" + c.Value); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
		parts := strings.Split(c.Value, ".")
		forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("Bert")) + "." + parts[len(parts)-1]
		if got := who(c.Name + "=" + forged); got != "401" {
			t.Errorf("%q: with another name in the cookie: %s", name, got)
		}
	}
	for _, name := range []string{"a)", "uid=0(root)", "a\nb", "\u202eanna", "a\"b", "<b>", strings.Repeat("x", maxName+1), "\x00", "a,b"} {
		body, err := json.Marshal(map[string]string{"token": theToken, "name": name})
		if err != nil {
			t.Fatal(err)
		}
		if w := x.ask("POST", "/session", string(body)); w.Code != http.StatusBadRequest || len(w.Result().Cookies()) > 0 {
			t.Errorf("%q: %d %s", name, w.Code, w.Body)
		}
	}
	for _, value := range []string{"", ".", "..", "...", "9.", "9..", "x.y.z", strings.Repeat(".", 4000)} {
		if got := who(cookieName + "=" + value); got != "401" {
			t.Errorf("a cookie %.20q: %s", value, got)
		}
	}
}

// Who guesses tokens fills no log.
func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSite(t, "127.0.0.1:8080")
		var log bytes.Buffer
		x.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		guess := func() {
			t.Helper()
			if w := x.ask("POST", "/session", `{"token":"a guess of 16 or more"}`); w.Code != http.StatusForbidden {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		for range 1000 {
			guess()
		}
		if text := log.String(); strings.Count(text, "wrong token") != 1 || !strings.Contains(text, "times=1\n") {
			t.Errorf("the log has\n%s", text)
		}
		minute := time.NewTimer(time.Minute)
		<-minute.C
		guess()
		if text := log.String(); strings.Count(text, "wrong token") != 2 || !strings.Contains(text, "times=1000\n") {
			t.Errorf("the log has\n%s", text)
		}
	})
}

// A panic costs one answer.
func TestPanic(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	x.o.History = func([]byte) (any, error) { panic("oh") }
	if w := x.ask("GET", "/history", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "this request failed") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := x.ask("GET", "/state", ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Another token, a token that cannot be read and the time end a session.
func TestEndOfASession(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	cookie := x.login(t)
	can := func() bool {
		var s session
		if err := json.Unmarshal(x.ask("GET", "/session", "", "Cookie", cookie).Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return s.Order
	}
	if !can() {
		t.Error("not with the token")
	}
	x.token = "another token, also long"
	if can() {
		t.Error("with another token")
	}
	x.token, x.err = theToken, errors.New("open page.token: permission denied")
	if can() {
		t.Error("with a token that cannot be read")
	}
	if w := x.ask("POST", "/session", `{"token":"`+theToken+`"}`); w.Code != 403 || !strings.Contains(w.Body.String(), "permission denied") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	x.err = nil
	x.now = x.now.Add(-clockSlack)
	if !can() {
		t.Error("not after the clock was set back by a day")
	}
	x.now = x.now.Add(-time.Second)
	if can() {
		t.Error("with a cookie of a clock that was ahead by more")
	}
	x.now = x.now.Add(clockSlack + time.Second)
	x.now = x.now.Add(sessionLasts - time.Second)
	if !can() {
		t.Error("not on the last second")
	}
	x.now = x.now.Add(time.Second)
	if can() {
		t.Error("after its end")
	}
	x.token = "short"
	if w := x.ask("POST", "/session", `{"token":"short"}`); w.Code != 403 || !strings.Contains(w.Body.String(), "needs 16") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if c := x.ask("DELETE", "/session", "").Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("cookies %v", c)
	}
}

// On an address that others reach, nobody looks without the token.
func TestLookFromElsewhere(t *testing.T) {
	x := newSite(t, "192.168.1.5:8080")
	for _, path := range []string{"/state", "/events", "/history?sensor=air"} {
		if w := x.ask("GET", path, "", "Host", "greenhouse.local:8080"); w.Code != 401 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := x.ask("GET", "/", "", "Host", "192.168.1.5:8080"); w.Code != 200 {
		t.Errorf("the page itself: %d", w.Code)
	}
	if w := x.ask("GET", "/state", "", "Host", "greenhouse.local", "Cookie", x.login(t)); w.Code != 200 || !strings.Contains(w.Body.String(), `"thing":"thing-1"`) {
		t.Errorf("with the token: %d %s", w.Code, w.Body)
	}
}

// Without a token file the page shows, and takes no orders.
func TestNoToken(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	x.o.Token = nil
	if w := x.ask("GET", "/session", ""); !strings.Contains(w.Body.String(), `"look":true,"order":false,"token":false`) || !strings.Contains(w.Body.String(), "token_file is not set") {
		t.Errorf("%s", w.Body)
	}
	if w := x.ask("POST", "/session", `{"token":""}`); w.Code != 403 {
		t.Errorf("%d", w.Code)
	}
}

// The files are small, have types, and are sent once.
func TestAssets(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	total := 0
	for path, f := range assets() {
		w := x.ask("GET", path, "")
		if w.Code != 200 || f.mime == "" || w.Header().Get("Content-Type") != f.mime || w.Body.Len() == 0 {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		total += w.Body.Len()
		if z := x.ask("GET", path, "", "Accept-Encoding", "gzip, br"); z.Header().Get("Content-Encoding") != "gzip" || z.Body.Len() >= w.Body.Len()+32 {
			t.Errorf("%s: %d bytes packed, %d plain", path, z.Body.Len(), w.Body.Len())
		}
		if again := x.ask("GET", path, "", "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s again: %d", path, again.Code)
		}
	}
	if total > 150_000 {
		t.Errorf("the page has %d bytes, more than 150 KB", total)
	}
	for _, inline := range []string{"<style", "style=", "onclick", "javascript:", "http://", "https://"} {
		if strings.Contains(x.ask("GET", "/", "").Body.String(), inline) {
			t.Errorf("index.html has %q", inline)
		}
	}
}

// However many look, the state is made twice a second at most.
func TestStateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSite(t, "127.0.0.1:8080")
		for second := range 3 {
			for range 50 {
				x.ask("GET", "/state", "")
			}
			if x.states != second+1 {
				t.Errorf("it was made %d times in %d seconds", x.states, second)
			}
			again := time.NewTimer(every)
			<-again.C
		}
	})
}

// running runs the page on a port and returns its address.
func (x *site) running(t *testing.T) string {
	t.Helper()
	// An address of its own, so that nobody takes the port meanwhile.
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	x.o.Address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	return x.o.Address
}

// dial connects when the page listens.
func dial(t *testing.T, at string) net.Conn {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for range 1000 {
		if c, err := net.Dial("tcp", at); err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		<-again.C
	}
	t.Fatal("nobody listens")
	return nil
}

// Two hundred connections, each with a stream of events, do not take the page away from
// whoever looks already, and all end with the page.
func TestManyStreams(t *testing.T) {
	x := newSite(t, "127.0.0.1:8080")
	at := x.running(t)
	first := dial(t, at)
	const ask = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
	if _, err := io.WriteString(first, ask); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(first)
	events := 0
	next := func() {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("after %d events: %v", events, err)
			}
			if strings.HasPrefix(line, "data: ") {
				events++
				return
			}
		}
	}
	next()
	busy := 0
	for range 200 {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, ask); err != nil {
			continue // closed, as there is no room
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			busy++ // likewise
			continue
		}
		if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "" {
			busy++
		}
	}
	if busy != 200-(loopbackShare.streams-1) {
		t.Errorf("%d were refused", busy)
	}
	next()
	if conns, streams := x.taken(); conns > maxConns || streams != loopbackShare.streams {
		t.Errorf("%d connections, %d streams", conns, streams)
	}
}
