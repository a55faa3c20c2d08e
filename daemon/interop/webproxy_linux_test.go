package interop

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/certtest"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/page"
)

// webProxy is a web server that deploy/README.md puts before the page.
type webProxy struct {
	program string
	block   string // the language of its lines in the document
	// around completes these lines, which are for an address and a port, in a directory.
	around func(lines, dir, host, port string) string
	args   []string // before the file
}

var webProxies = []webProxy{
	{"nginx", "nginx", func(lines, dir, host, port string) string {
		user := ""
		if os.Geteuid() == 0 {
			user = "user root;" // else its workers may not write into dir
		}
		temporary := ""
		for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			temporary += fmt.Sprintf("%s_temp_path %s/%[1]s;\n", of, dir)
		}
		lines = strings.Replace(lines, "listen 443", "listen "+host+":"+port, 1)
		return fmt.Sprintf("%s daemon off; pid %s/pid; error_log stderr; events {}\nhttp {\naccess_log off;\n%s%s}\n", user, dir, temporary, lines)
	}, []string{"-e", "stderr", "-c"}},
	{"caddy", "caddy", func(lines, _, host, port string) string {
		lines = strings.Replace(lines, "{\n", "{\nbind "+host+"\n", 1)
		return "{\nadmin off\nauto_https disable_redirects\nhttps_port " + port + "\n}\n" + lines
	}, []string{"run", "--adapter", "caddyfile", "--config"}},
}

// ownAddress is one that nobody takes meanwhile.
func ownAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// linesOf returns the lines of deploy/README.md for a proxy.
func linesOf(t *testing.T, block string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```" + block + "\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("deploy/README.md has no lines for %s", block)
	}
	return string(m[1])
}

// start runs the proxy with these lines before the page at an address. It returns its own
// address, and its certificates' authority.
func (p webProxy) start(t *testing.T, lines, site string) (address string, people *certtest.Authority) {
	t.Helper()
	binary, err := exec.LookPath(p.program)
	if err != nil {
		if binary = "/usr/sbin/" + p.program; exec.Command(binary, "-h").Run() != nil {
			if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
				t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %v", err)
			}
			t.Skipf("NOT TESTED behind %s: %v; on Debian: apt install %[1]s", p.program, err)
		}
	}
	dir := t.TempDir()
	people = certtest.NewAuthority(t, "people", nil)
	cert, key := people.Issue("greenhouse.example", nil)
	address = ownAddress(t)
	host, port, _ := net.SplitHostPort(address)
	lines = strings.NewReplacer("/etc/fieldpost-page", dir, "127.0.0.1:8080", site).Replace(lines)
	for name, content := range map[string][]byte{"server.pem": cert, "server.key": key, "clients-ca.pem": people.PEM, "conf": []byte(p.around(lines, dir, host, port))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, append(p.args, filepath.Join(dir, "conf"))...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = daemontest.LogWriter(t), daemontest.LogWriter(t)
	exited, err := daemontest.StartChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-exited                                // as it likes
	})
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(daemontest.Patience); ; <-again.C {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close() // nothing was said
			return address, people
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen", p.program)
		}
	}
}

// reader is a browser of somebody with a certificate, or with none.
type reader struct {
	t           *testing.T
	http        *http.Client
	address     string
	cookie, key string
}

func newReader(t *testing.T, address string, trusts, from *certtest.Authority) *reader {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusts.PEM)
	config := &tls.Config{RootCAs: roots}
	if from != nil {
		pair, err := tls.X509KeyPair(from.Issue("anna", nil))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &reader{t: t, http: &http.Client{Transport: transport, Timeout: daemontest.Patience}, address: address}
}

// origin is that of the page, as the browser sees it.
func (r *reader) origin() string {
	_, port, _ := net.SplitHostPort(r.address)
	return "https://greenhouse.example:" + port
}

// ask makes a request that a page of that origin makes.
func (r *reader) ask(method, path, origin, body string) (*http.Response, error) {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.origin()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if method != http.MethodGet {
		q.Header.Set("Origin", origin)
		q.Header.Set("Content-Type", "application/json")
	}
	q.Header.Set("Fieldpost-Key", r.key)
	q.Header.Set("Cookie", r.cookie)
	return r.http.Do(q)
}

// want makes a request and checks the answer's status and text.
func (r *reader) want(status int, text, method, path, origin, body string) (all string) {
	r.t.Helper()
	a, err := r.ask(method, path, origin, body)
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != status || !strings.Contains(string(b), text) {
		r.t.Errorf("%s %s from %s: %d %s, %v; want %d %s", method, path, origin, a.StatusCode, b, err, status, text)
	}
	if c := a.Cookies(); len(c) == 1 {
		r.cookie = c[0].Name + "=" + c[0].Value
	}
	return string(b)
}

// The lines of deploy/README.md for nginx and Caddy show the page to who has a certificate, and
// to nobody else. Each event comes through at once, and orders do; not from another page.
func TestPageBehindAWebProxy(t *testing.T) {
	for _, p := range webProxies {
		t.Run(p.program, func(t *testing.T) {
			site, seen, causes := ownAddress(t), make(chan struct{}), make(chan string, 1)
			states := 0
			servePage(t, page.Options{
				Address: site, Hosts: []string{"greenhouse.example"}, Token: func() (string, error) { return "a token for the tests", nil }, Now: time.Now,
				State: func() page.State {
					if states++; states == 2 { // nothing more is sent before the first event has come through
						select {
						case <-seen:
						case <-t.Context().Done():
						}
					}
					return page.State{Status: api.Status{Thing: fmt.Sprintf("state %d", states)}}
				},
				Order: func(_ context.Context, _ api.Order, cause string) (any, error) {
					causes <- cause
					return map[string]string{"status": "done"}, nil
				},
			})
			address, people := p.start(t, linesOf(t, p.block), site)
			for who, from := range map[string]*certtest.Authority{"nobody": nil, "a stranger": certtest.NewAuthority(t, "people", nil)} {
				if a, err := newReader(t, address, people, from).ask("GET", "/", "", ""); err == nil {
					_ = a.Body.Close() // nobody reads it
					if a.StatusCode != http.StatusBadRequest {
						t.Errorf("%s sees the page: %s", who, a.Status)
					}
				}
			}
			r := newReader(t, address, people, people)
			r.want(200, "<title>", "GET", "/", "", "")
			r.live(seen)
			r.want(401, "show the token first", "POST", "/order", r.origin(), `{"output":"pump","action":"on"}`)
			var session struct{ Key string }
			if err := json.Unmarshal([]byte(r.want(200, `"order":true`, "POST", "/session", r.origin(), `{"token":"a token for the tests","name":"Anna"}`)), &session); err != nil {
				t.Fatal(err)
			}
			r.key = session.Key
			r.want(200, "done", "POST", "/order", r.origin(), `{"output":"pump","action":"on"}`)
			if cause := <-causes; cause != "page from 127.0.0.1 (Anna)" {
				t.Errorf("cause %q", cause)
			}
			r.want(403, "another page", "POST", "/order", "https://evil.example", `{"output":"pump","action":"on"}`)
		})
	}
}

// live reads two events, the second of which is sent only after the first has come.
func (r *reader) live(seen chan struct{}) {
	r.t.Helper()
	a, err := r.ask("GET", "/events", "", "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	lines, next := bufio.NewScanner(a.Body), 1
	for next <= 2 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			if next == 1 {
				close(seen)
			}
			next++
		}
	}
	if next <= 2 {
		r.t.Fatalf("event %d does not come through: %v", next, lines.Err())
	}
}

// What the comment in nginx's lines says: without its Host header the page refuses orders, and
// says why.
func TestPageBehindNginxWithoutHost(t *testing.T) {
	p, site := webProxies[0], ownAddress(t)
	servePage(t, page.Options{Address: site, Hosts: []string{"greenhouse.example"}, Token: func() (string, error) { return "a token for the tests", nil }, Now: time.Now})
	lines := regexp.MustCompile(`(?m)^ *proxy_set_header .*\n`).ReplaceAllString(linesOf(t, p.block), "")
	address, people := p.start(t, lines, site)
	r := newReader(t, address, people, people)
	r.want(200, "<title>", "GET", "/", "", "")
	r.want(403, "a proxy does not pass the Host header on", "POST", "/session", r.origin(), `{"token":"a token for the tests"}`)
}

// servePage serves a page until the end of the test.
func servePage(t *testing.T, o page.Options) {
	t.Helper()
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		t.Fatal(err)
	}
	o.Listener, o.Log = l, daemontest.Log(t)
	s, err := page.New(o)
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Background(t, s.Run)
}
