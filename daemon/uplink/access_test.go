package uplink

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]string{"": "", "none": "", "http://proxy:3128": "proxy:3128", "http://u:p@proxy": "proxy", "http://[::1]:3128/": "[::1]:3128"} {
		u, err := ParseProxy(text)
		if err != nil || u == nil && want != "" || u != nil && u.Host != want {
			t.Errorf("%q: %v, %v, want %q", text, u, err, want)
		}
	}
	for _, text := range []string{"proxy:3128", "https://proxy", "socks5://proxy", "http://", "http://proxy/path", "http://proxy?x", "http://u:secret@proxy/x", "http://u:secret@%zz"} {
		if u, err := ParseProxy(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", text, u, err)
		}
	}
}

// through makes a connection through a proxy that answers so.
func through(t *testing.T, proxy, answer string) (request string, got string, err error) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan string, 1)
	go func() {
		defer far.Close()
		r := bufio.NewReader(far)
		req, err := http.ReadRequest(r)
		if err != nil {
			done <- err.Error()
			return
		}
		done <- req.Method + " " + req.RequestURI + " " + req.Host + " " + req.Header.Get("Proxy-Authorization")
		_, _ = io.WriteString(far, answer)
	}()
	dialed := ""
	c, err := Access{Proxy: proxy}.Dial(t.Context(), "broker.test:8883", func(_ context.Context, _, address string) (net.Conn, error) {
		dialed = address
		return near, nil
	})
	request = dialed + " " + <-done
	if err == nil {
		b, _ := io.ReadAll(c)
		got = string(b)
		c.Close()
	}
	return request, got, err
}

// What follows the proxy's header belongs to the broker.
func TestProxyConnects(t *testing.T) {
	request, got, err := through(t, "http://u:p@proxy", "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello")
	if err != nil || got != "hello" || request != "proxy:80 CONNECT broker.test:8883 broker.test:8883 Basic dTpw" {
		t.Errorf("%q, %q, %v", request, got, err)
	}
}

func TestProxyRefuses(t *testing.T) {
	for answer, c := range map[string]struct {
		want health.Code
		says string
	}{
		"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n": {health.ProxyRefused, "wants a user name and a password"},
		"HTTP/1.1 403 Forbidden\r\n\r\n":                     {health.ProxyRefused, "does not allow connections to broker.test:8883"},
		"HTTP/1.0 502 Bad\x1b[2J Gateway\r\n\r\n":            {health.NetworkDown, `502 "Bad\x1b[2J Gateway"`},
		"SSH-2.0-OpenSSH_9.2\r\n":                            {health.NetworkDown, "its answer is not HTTP"},
		"HTTP/1.1 abc\r\n\r\n":                               {health.NetworkDown, "its answer is not HTTP"},
		"HTTP/1.1 200 OK\r\n":                                {health.NetworkDown, "no answer"},
		"":                                                   {health.NetworkDown, "no answer"},
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20000): {health.NetworkDown, "too long"},
	} {
		_, _, err := through(t, "http://proxy:3128", answer)
		e := Explain(err, Disconnect{Phase: Dialing, Endpoint: "broker.test:8883"})
		if e == nil {
			t.Errorf("%.40q: no error", answer)
			continue
		}
		checkSays(t, e, c.want, c.says, "proxy:3128")
		if Inferred(err) {
			t.Errorf("%.40q: taken for a hang-up of the broker: %v", answer, err)
		}
	}
}

// A proxy that says nothing holds up nobody beyond the context.
func TestProxyIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Access{Proxy: "http://proxy"}.Dial(ctx, "broker.test:8883", func(context.Context, string, string) (net.Conn, error) { return near, nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestProtocols(t *testing.T) {
	for _, c := range []struct {
		alpn, port string
		want       []string
	}{{"", "8883", nil}, {"", "443", []string{"x-amzn-mqtt-ca"}}, {"mqtt", "443", []string{"mqtt"}}, {"mqtt", "8883", []string{"mqtt"}}, {"none", "443", nil}} {
		if got := (Access{ALPN: c.alpn}).protocols(c.port); !slices.Equal(got, c.want) {
			t.Errorf("%q on %s: %q, want %q", c.alpn, c.port, got, c.want)
		}
	}
}

// The CONNECT has the user name and the password of the file as it is at that moment, with or
// without a certificate.
func TestUserNameAndPassword(t *testing.T) {
	for name, certificate := range map[string]bool{"beside the certificate": true, "in its place": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				c := b.config()
				if !certificate {
					b.tls.ClientAuth, b.tls.ClientCAs = 0, nil
					c.Certificate, c.Key = "", ""
				}
				c.Username, c.PasswordFile = "board", b.file("password")
				put(t, c.PasswordFile, []byte("first\r\n"))
				l := run(t, c)
				for _, want := range []string{"first", "second "} {
					p := b.peer()
					cp := expect[*packets.ConnectPacket](p)
					if cp.Username != "board" || string(cp.Password) != want {
						t.Errorf("CONNECT as %q with %q, want %q", cp.Username, cp.Password, want)
					}
					put(t, c.PasswordFile, []byte("second \n"))
					p.connack(4, false)
					p.gone()
					synctest.Wait()
					checkSays(t, l.Status().Err.(*Explained), health.LoginRefused, `"board"`, "broker.password_file")
				}
				l.end(t, nil)
			})
		})
	}
}

func TestAccessRefused(t *testing.T) {
	b := newBroker(t)
	for name, change := range map[string]func(c *Config){
		"neither certificate nor user name": func(c *Config) { c.Certificate, c.Key = "", "" },
		"a certificate without its key":     func(c *Config) { c.Key, c.Username = "", "board" },
		"a password without a user name":    func(c *Config) { c.PasswordFile = "x" },
		"a proxy of another kind":           func(c *Config) { c.Proxy = "socks5://x" },
		"a NUL in the user name":            func(c *Config) { c.Username = "a\x00" },
	} {
		c := b.config()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestPasswordFileProblems(t *testing.T) {
	b := newBroker(t)
	files := CredentialFilesConfig{CA: b.file("ca.PEM"), Password: b.file("password")}
	if got := CheckFiles(files, time.Now()); len(got) != 1 || got[0].File != files.Password {
		t.Errorf("no file: %v", got)
	}
	put(t, files.Password, []byte("\n"))
	if got := CheckFiles(files, time.Now()); len(got) != 1 || !strings.Contains(got[0].What, "0 bytes") {
		t.Errorf("empty: %v", got)
	}
	put(t, files.Password, []byte("secret"))
	if got := CheckFiles(files, time.Now()); len(got) != 0 {
		t.Errorf("good: %v", got)
	}
}

// Each of them takes a new connection; see needsConnection.
func TestAccessNeedsAConnection(t *testing.T) {
	b := newBroker(t)
	l, err := New(b.config())
	must(t, err)
	for want, change := range map[string]func(c *Config){
		"username":    func(c *Config) { c.Username = "u" },
		"proxy":       func(c *Config) { c.Proxy = "http://x" },
		"alpn":        func(c *Config) { c.ALPN = "mqtt" },
		"credentials": func(c *Config) { c.Username, c.PasswordFile = "u", "pw" },
	} {
		c := b.config()
		change(&c)
		got, err := l.Compare(c)
		if err != nil || !slices.Contains(got, want) {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
}
