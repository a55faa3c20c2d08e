package daemon_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
)

const (
	firstToken  = "the first token of all"
	secondToken = "the second token of all"
)

// visitor is a browser that looks at one page.
type visitor struct {
	t       *testing.T
	address string
	cookie  string
	key     string
}

// ask makes a request on a connection of its own. A status of 0 is no answer.
func (v *visitor) ask(method, path, body string) (status int, text string) {
	v.t.Helper()
	r, err := http.NewRequest(method, "http://"+v.address+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Fieldpost-Key", v.key)
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: daemontest.Patience}
	a, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return 0, err.Error()
	}
	if c := a.Cookies(); len(c) == 1 {
		v.cookie = c[0].Name + "=" + c[0].Value
	}
	return a.StatusCode, string(b)
}

// visit waits until a page answers, and shows it a token, if there is one.
func visit(t *testing.T, address, token string) *visitor {
	t.Helper()
	v := &visitor{t: t, address: address}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(daemontest.Patience); ; <-again.C {
		if status, _ := v.ask("GET", "/session", ""); status == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there is no page at %s", address)
		}
	}
	if token == "" {
		return v
	}
	status, text := v.ask("POST", "/session", `{"token":"`+token+`"}`)
	var s struct{ Key string }
	if err := json.Unmarshal([]byte(text), &s); err != nil || status != http.StatusOK || s.Key == "" {
		t.Fatalf("token: %d %s, %v", status, text, err)
	}
	v.key = s.Key
	return v
}

// order switches the pump and returns the answer.
func (v *visitor) order(action string) (status int, text string) {
	v.t.Helper()
	return v.ask("POST", "/order", `{"output":"pump","action":"`+action+`"}`)
}

// events opens a stream and waits for its first event. more reads on until the next one; false
// is the end of the stream.
func (v *visitor) events() (more func() bool) {
	v.t.Helper()
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: localhost\r\nCookie: %s\r\n\r\n", v.cookie); err != nil {
		v.t.Fatal(err)
	}
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	lines := bufio.NewReader(a.Body)
	more = func() bool {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return false
			}
			if strings.HasPrefix(line, "data: ") {
				return true
			}
		}
	}
	if !more() {
		v.t.Fatal("there are no events")
	}
	return more
}

// ends reads a stream to its end.
func ends(more func() bool) {
	for more() {
	}
}

// pageToken writes a token file into the site's directory.
func pageToken(t *testing.T, s *daemontest.Site, name, token string) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A reload moves the page, changes its token, and takes it back. Its streams end, and nobody
// can order with what the token before has given.
func TestPageFollowsTheConfiguration(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	r, _ := s.StartWithSocket(s.Config("", ""))
	first, second := pageToken(t, s, "first.token", firstToken), pageToken(t, s, "second.token", secondToken)
	reload := func(local string) {
		t.Helper()
		s.Config("", local)
		if _, err := r.Daemon.Reload(t.Context(), "a test"); err != nil {
			t.Fatal(err)
		}
	}
	at := func(address, token string) string {
		return fmt.Sprintf("local: {listen: %q, token_file: %q}", address, token)
	}
	here, there := freeAddress(t), freeAddress(t)
	reload(at(here, first))
	v := visit(t, here, firstToken)
	if status, text := v.order("on"); status != http.StatusOK || !strings.Contains(text, `"done"`) {
		t.Fatalf("order: %d %s", status, text)
	}
	more := v.events()

	reload(at(there, first)) // the address moves
	ends(more)
	if status, text := v.ask("GET", "/", ""); status != 0 {
		t.Errorf("the address from before answers %d %s", status, text)
	}
	v.address = there
	visit(t, there, "")
	if status, text := v.order("off"); status != http.StatusOK {
		t.Errorf("with the same token at the new address: %d %s", status, text)
	}
	more = v.events()

	reload(at(there, second)) // the token changes
	ends(more)
	visit(t, there, "")
	if status, text := v.order("on"); status != http.StatusUnauthorized {
		t.Errorf("an order with the old token's cookie: %d %s", status, text)
	}
	if status, text := v.ask("POST", "/session", `{"token":"`+firstToken+`"}`); status != http.StatusForbidden {
		t.Errorf("the old token: %d %s", status, text)
	}
	if status, text := visit(t, there, secondToken).order("on"); status != http.StatusOK {
		t.Errorf("an order with the new token: %d %s", status, text)
	}

	reload("") // off
	if status, text := v.ask("GET", "/", ""); status != 0 {
		t.Errorf("a page that is off answers %d %s", status, text)
	}
	reload(at(here, second)) // and on
	if status, text := visit(t, here, secondToken).order("off"); status != http.StatusOK {
		t.Errorf("after it was off: %d %s", status, text)
	}
	if high, _ := s.Board.Line("GPIO27").Level(); !high { // active low
		t.Error("the pump is on")
	}
}

// A token that changes in its file, without a reload, ends sessions and their streams too.
func TestPageTokenChanges(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	address := freeAddress(t)
	file := pageToken(t, s, "page.token", firstToken)
	s.Start(s.Config("", fmt.Sprintf("local: {listen: %q, token_file: %q}", address, file)))
	v := visit(t, address, firstToken)
	more := v.events()
	pageToken(t, s, "page.token", secondToken)
	ends(more)
	if status, text := v.order("on"); status != http.StatusUnauthorized {
		t.Errorf("an order with the old token's cookie: %d %s", status, text)
	}
}

// An address that is wrong is refused with the whole configuration; the page before goes on
// with its streams.
func TestPageRefusesAWrongAddress(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	address := freeAddress(t)
	file := pageToken(t, s, "page.token", firstToken)
	good := fmt.Sprintf("local: {listen: %q, token_file: %q}", address, file)
	cfg := s.Config("", good)
	r, _ := s.StartWithSocket(cfg)
	text, err := os.ReadFile(cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	v := visit(t, address, firstToken)
	more := v.events()
	for what, local := range map[string]string{
		"no port":           `local: {listen: "127.0.0.1"}`,
		"a name":            `local: {listen: "localhost:8080"}`,
		"everybody":         `local: {listen: "0.0.0.0:8080"}`,
		"everybody, unsafe": `local: {listen: "0.0.0.0:8080", hosts: [greenhouse.local]}`,
		"a port too high":   `local: {listen: "127.0.0.1:99999"}`,
	} {
		rewritten := strings.Replace(strings.Replace(string(text), good, local, 1), "every: 100ms", "every: 50ms", 1)
		if err := os.WriteFile(cfg.File, []byte(rewritten), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Daemon.Reload(t.Context(), "a test"); err == nil || !strings.Contains(err.Error(), "local.listen") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 2 {
		if !more() {
			t.Fatal("the stream has ended")
		}
	}
	if status, text := v.order("on"); status != http.StatusOK {
		t.Errorf("order: %d %s", status, text)
	}
}

// The page takes a listener that is open already, so nobody takes its port in between; after a
// reload it opens its address itself.
func TestPageTakesAListener(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	cfg := s.Config("", fmt.Sprintf("local: {listen: %q}", address))
	stop := s.Launch(daemon.Options{Config: cfg, Log: daemontest.Log(t), PageListener: l})
	v := visit(t, address, "")
	if status, text := v.ask("GET", "/state", ""); status != http.StatusOK || !strings.Contains(text, "thing-greenhouse") {
		t.Errorf("%d %s", status, text)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

// A listener that is not the configuration's is closed.
func TestPageClosesAnotherListener(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cfg := s.Config("", fmt.Sprintf("local: {listen: %q}", address))
	s.Launch(daemon.Options{Config: cfg, Log: daemontest.Log(t), PageListener: l})
	visit(t, address, "")
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

// A thousand streams from one address cost the daemon no reading and no order, and others
// still see the page.
func TestThousandStreams(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	address := freeAddress(t)
	file := pageToken(t, s, "page.token", firstToken)
	r, socket := s.StartWithSocket(s.Config("", fmt.Sprintf("local: {listen: %q, token_file: %q}", address, file)))
	r.AwaitLink(t)
	v := visit(t, address, firstToken)
	const all = 1000
	taken := 0
	for range all {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			continue // closed: there is no room
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && strings.Contains(line, "200") {
			taken++
		}
	}
	if taken == 0 || taken > all/20 {
		t.Errorf("%d of %d streams", taken, all)
	}
	drain(r.Acked)
	daemontest.Await(t, "reading", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
	if _, err := client.AskOrder(t.Context(), socket, "thing-greenhouse", client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute}); err != nil {
		t.Error(err)
	}
	if status, text := visit(t, address, "").ask("GET", "/", ""); status != http.StatusOK {
		t.Errorf("the page: %d %s", status, text)
	}
	if status, text := v.order("off"); status != http.StatusOK || !strings.Contains(text, `"done"`) {
		t.Errorf("an order: %d %s", status, text)
	}
	if more := v.events(); !more() {
		t.Error("no second event")
	}
}

// drain takes what waits in a channel.
func drain(records chan message.Record) {
	for len(records) > 0 {
		<-records
	}
}
