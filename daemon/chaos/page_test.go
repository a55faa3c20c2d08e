//go:build chaos && linux

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bell is the output that gets all its orders from the web page.
const bell = "bell"

const pageToken = "the token of the chaos"

// newPageAddresses returns addresses for the page that nobody else uses.
func newPageAddresses(t *testing.T, random *rand.Rand) (all []string) {
	t.Helper()
	for range 2 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+random.IntN(250), random.IntN(250), 1+random.IntN(250)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// preparePage writes the page's token.
func (c *testbed) preparePage() {
	c.put(filepath.Join(c.dir, "page.token"), []byte(pageToken+"\n"))
	c.pages = newPageAddresses(c.t, c.random)
	c.page = c.pages[0]
}

// pageUser is a browser with the token.
type pageUser struct {
	c *testbed
	b *checker

	mu          sync.Mutex
	cookie, key string
}

// address returns where the page is now.
func (u *pageUser) address() string {
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	return u.b.page
}

// session returns what shows that the browser has the token.
func (u *pageUser) session() (cookie, key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cookie, u.key
}

// call makes a request and returns the status and the body of the answer; 0 if none comes.
func (u *pageUser) call(ctx context.Context, path, body string) (status int, answer []byte) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+u.address()+path, strings.NewReader(body))
	if err != nil {
		u.c.t.Errorf("request of the page: %v", err)
		return 0, nil
	}
	cookie, key := u.session()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Cookie", cookie)
	r.Header.Set("Fieldpost-Key", key)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer a.Body.Close()
	answer, err = io.ReadAll(a.Body)
	if err != nil {
		return 0, nil
	}
	if all := a.Cookies(); len(all) == 1 && all[0].Value != "" {
		var s struct{ Key string }
		_ = json.Unmarshal(answer, &s) // without a key orders are refused
		u.mu.Lock()
		u.cookie, u.key = all[0].Name+"="+all[0].Value, s.Key
		u.mu.Unlock()
	}
	return a.StatusCode, answer
}

// pageSender sends orders for the bell through the page, one after the other. While no answer
// comes it asks again by the same id: whatever happens to the daemon, an order acts once.
type pageSender struct {
	orderSender
	user *pageUser
}

// work sends orders until ctx ends.
func (p *pageSender) work(ctx context.Context) {
	actions := []string{"on 200ms", "pulse 100ms", "on 50ms", "off"}
	for ctx.Err() == nil {
		action := actions[p.random.IntN(len(actions))]
		p.b.mu.Lock()
		if p.b.proving {
			action = actions[0]
		}
		p.b.mu.Unlock()
		e := &sentOrder{output: bell, action: action, expires: time.Now().Add(time.Minute), page: true}
		p.b.begin(e)
		if !p.answered(ctx, e) || !p.acted(ctx, e) || !p.effect(ctx, e) {
			return
		}
		p.b.wait(time.Duration(100+p.random.IntN(800))*time.Millisecond, func() bool { return p.b.proving || ctx.Err() != nil })
	}
}

// answered sends an order until it has its answer.
func (p *pageSender) answered(ctx context.Context, e *sentOrder) bool {
	body, _ := json.Marshal(map[string]string{"id": e.id, "output": e.output, "action": e.action, "for": e.lasts}) // strings always encode
	for n := 0; ctx.Err() == nil; n++ {
		if n == 1 {
			p.b.mu.Lock()
			p.b.count["orders on the page sent again because no answer came"]++
			p.b.mu.Unlock()
		}
		status, text := p.user.call(ctx, "/order", string(body))
		var a reply
		switch {
		case status == http.StatusUnauthorized: // not yet, or the clock has been stepped
			if status, text := p.user.call(ctx, "/session", `{"token":"`+pageToken+`"}`); status != http.StatusOK && status != 0 && status != http.StatusServiceUnavailable {
				p.complain("the token was answered %d %s", status, text)
			}
		case status == http.StatusOK && json.Unmarshal(text, &a) != nil:
			p.complain("order %s was answered %q", e.id, text)
			return false
		case status == http.StatusOK && a.ID != "" && a.Output != "":
			p.b.mu.Lock()
			a.Thing, a.Kind = e.thing, "answer" // it may come over MQTT too, after a kill
			known, _ := json.Marshal(a)         // so can these
			p.b.answer(string(known))
			p.b.count["orders on the page answered"]++
			p.b.wakeLocked()
			p.b.mu.Unlock()
			return true
		case status != http.StatusOK && status != 0 && status != http.StatusServiceUnavailable:
			p.complain("order %s was answered %d %s", e.id, status, text)
		}
		p.b.wait(time.Duration(20+p.random.IntN(200))*time.Millisecond, func() bool { return ctx.Err() != nil })
	}
	return false
}

// acted waits until the daemon's report of the act has come, which goes another way than the
// answer.
func (p *pageSender) acted(ctx context.Context, e *sentOrder) bool {
	return p.wait(ctx, func() bool {
		if !e.energises || e.reply.Status != "done" && e.reply.Status != "unknown" {
			return true
		}
		p.b.handleAnswer(e)
		return e.acts > 0 || e.reply.Status == "unknown"
	})
}

func (p *pageSender) complain(format string, args ...any) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.b.complain(format, args...)
}

// pageHammer is a neighbour on this machine that does to the page what it can.
type pageHammer struct {
	c      *testbed
	b      *checker
	user   *pageUser
	random *rand.Rand
	open   []net.Conn // streams and silent connections, which nobody reads
}

// work hammers until ctx ends.
func (h *pageHammer) work(ctx context.Context) {
	defer func() {
		for _, c := range h.open {
			_ = c.Close() // nobody waits for anything on it
		}
	}()
	for ctx.Err() == nil {
		switch h.random.IntN(6) {
		case 0:
			h.occupy()
		case 1:
			h.abandon()
		default:
			h.attack()
		}
		h.b.wait(time.Duration(10+h.random.IntN(150))*time.Millisecond, func() bool { return ctx.Err() != nil })
	}
}

// attack makes one request that must be refused.
func (h *pageHammer) attack() {
	cookie, key := h.user.session()
	ours := "Cookie: " + cookie + "\r\nFieldpost-Key: " + key + "\r\nContent-Type: application/json\r\n"
	on := `{"output":"` + bell + `","action":"on","for":"5s"}`
	request := func(line, heads, body string) string {
		return line + " HTTP/1.1\r\nHost: localhost\r\n" + heads + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
	}
	attacks := []struct {
		what string
		send string
		want []int // or no answer at all
	}{
		{"a malformed query", request("GET /history?sensor=%zz", "", ""), []int{400}},
		{"a long query", request("GET /history?"+strings.Repeat("a=b&", 1500), "", ""), []int{400, 431}},
		{"a query for nothing", request("GET /history?sensor=%00%ff&since=-1&points=999999999", "", ""), []int{400, 404}},
		{"a giant header", request("GET /", "X-Giant: "+strings.Repeat("x", 64<<10)+"\r\n", ""), []int{431}},
		{"a giant body", request("POST /order", ours, `{"output":"`+strings.Repeat("x", 256<<10)+`"}`), []int{401, 413}},
		{"a giant body that never comes", "POST /order HTTP/1.1\r\nHost: localhost\r\n" + ours + "Content-Length: 99999999999\r\n\r\n{", []int{401, 408, 413}},
		{"a foreign origin", request("POST /order", ours+"Origin: http://evil.example\r\n", on), []int{403}},
		{"a foreign site", request("POST /order", ours+"Sec-Fetch-Site: cross-site\r\n", on), []int{403}},
		{"a foreign host", "POST /order HTTP/1.1\r\nHost: evil.example\r\n" + ours + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(on)) + on, []int{421}},
		{"two hosts", "POST /order HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n" + ours + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(on)) + on, []int{400}},
		{"no token", request("POST /order", "Content-Type: application/json\r\n", on), []int{401}},
		{"a cookie without its key", request("POST /order", "Cookie: "+cookie+"\r\nContent-Type: application/json\r\n", on), []int{401}},
		{"a wrong token", request("POST /session", "Content-Type: application/json\r\n", `{"token":"`+strings.Repeat("x", h.random.IntN(200))+`"}`), []int{403}},
		{"a form", request("POST /order", strings.Replace(ours, "application/json", "text/plain", 1), on), []int{401, 415}},
		{"no order", request("POST /order", ours, `{"output":["`+bell+`"]}`), []int{401, 400}},
		{"a path outside", request("GET /../../etc/passwd", "", ""), []int{307, 404}},
		{"a path outside, escaped", request("GET /%2e%2e/%2e%2e/etc/passwd", "", ""), []int{307, 404}},
		{"a path outside, by backslashes", request(`GET /..\..\etc\passwd`, "", ""), []int{404}},
		{"another method", request("DELETE /order", ours, ""), []int{405}},
		{"two lengths", "POST /order HTTP/1.1\r\nHost: localhost\r\n" + ours + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + request("POST /order", "", on), []int{400, 401}},
		{"noise", h.noise(), []int{400}},
	}
	a := attacks[h.random.IntN(len(attacks))]
	status := h.send(a.send)
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	switch {
	case status == 0:
		h.b.count["attacks on the page without an answer"]++
	case !slices.Contains(append(a.want, http.StatusServiceUnavailable), status):
		h.b.complain("the page answered %s with %d", a.what, status)
	default:
		h.b.count[fmt.Sprintf("attacks on the page refused with %d", status)]++
	}
}

func (h *pageHammer) noise() string {
	b := make([]byte, 1+h.random.IntN(2000))
	for i := range b {
		b[i] = byte(h.random.Uint32())
	}
	return string(append(b, "\r\n\r\n"...))
}

// connect connects to the page; nil if there is none now.
func (h *pageHammer) connect() net.Conn {
	c, err := net.DialTimeout("tcp", h.user.address(), time.Second)
	if err != nil {
		return nil
	}
	return c
}

// send sends a request and returns the status of its answer; 0 is none.
func (h *pageHammer) send(request string) int {
	c := h.connect()
	if c == nil {
		return 0
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(7 * time.Second)); err != nil {
		return 0
	}
	_, _ = io.WriteString(c, request) // an answer may come before the end of the request
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer a.Body.Close()
	body, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err == nil && bytes.Contains(body, []byte("root:")) {
		h.b.mu.Lock()
		h.b.complain("the page gave /etc/passwd away")
		h.b.mu.Unlock()
	}
	return a.StatusCode
}

// occupy opens many connections, for streams or with the beginnings of requests, and reads
// nothing from them.
func (h *pageHammer) occupy() {
	beginnings := []string{"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /events HTTP/1.1\r\nHost: localhost\r\nX-", "", "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"}
	opened := 0
	defer func() {
		h.b.mu.Lock()
		defer h.b.mu.Unlock()
		h.b.count["connections to the page opened and not read"] += opened
	}()
	for range 1 + h.random.IntN(80) {
		c := h.connect()
		if c == nil {
			return
		}
		opened++
		_, _ = io.WriteString(c, beginnings[h.random.IntN(len(beginnings))]) // it may be closed already
		h.open = append(h.open, c)
		if len(h.open) > 200 {
			_ = h.open[0].Close() // nobody waits for anything on it
			h.open = h.open[1:]
		}
	}
}

// abandon closes what is open, all or a part.
func (h *pageHammer) abandon() {
	n := h.random.IntN(len(h.open) + 1)
	for _, c := range h.open[:n] {
		_ = c.Close() // nobody waits for anything on it
	}
	h.open = slices.Clone(h.open[n:])
}
