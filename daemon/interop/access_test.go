package interop

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/doctor"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
)

// passwords starts mosquitto with a user "board" and the password "secret", without client
// certificates, and returns the configuration of a board that knows both.
func passwords(t *testing.T) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED with passwords: %v; on Debian: apt install mosquitto", err)
	}
	if out, err := exec.Command(tool, "-b", "-c", file, "board", "secret").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := daemontest.StartMosquitto(t, "require_certificate false", "use_identity_as_username false", "password_file "+file)
	cfg := siteFor(t, m.Addr, m.CA, m.Cert, m.Key)
	b := &cfg.Broker
	b.Certificate, b.Key = "", ""
	b.Username, b.PasswordFile = "board", filepath.Join(t.TempDir(), "password")
	write(t, b.PasswordFile, []byte("secret\n"))
	return cfg
}

// proxy is an HTTP proxy that connects for those who know its password, or answers so.
type proxy struct {
	url    string
	status string       // "" connects
	used   atomic.Int32 // connections made
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "http://me:mine@" + l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	user, password, ok := "", "", false
	if text, basic := strings.CutPrefix(req.Header.Get("Proxy-Authorization"), "Basic "); basic {
		user, password, ok = (&http.Request{Header: http.Header{"Authorization": {"Basic " + text}}}).BasicAuth()
	}
	switch {
	case p.status != "":
		_, _ = io.WriteString(c, "HTTP/1.1 "+p.status+"\r\n\r\n")
		return
	case req.Method != http.MethodConnect || !ok || user != "me" || password != "mine":
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
		return
	}
	far, err := net.DialTimeout("tcp", req.RequestURI, daemontest.Patience)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer far.Close()
	p.used.Add(1)
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(far, r)
		_ = far.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(c, far)
		_ = c.Close()
	})
	both.Wait()
}

// A user name and a password take the place of the certificate, through a proxy that wants some
// of its own: for the link, and over MQTT 5.
func TestPasswordThroughProxy(t *testing.T) {
	cfg := passwords(t)
	p := newProxy(t)
	access := uplink.Access{Username: cfg.Broker.Username, PasswordFile: cfg.Broker.PasswordFile, Proxy: p.url}
	queue := uplink.NewQueue()
	l, err := uplink.New(uplink.Config{Endpoint: cfg.Endpoint(), ClientID: "thing-1", CA: cfg.Broker.CA, Access: access, Outbox: queue, Log: daemontest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Background(t, l.Run)
	if err := daemontest.Receive(t, "acknowledgement", queue.Publish("test/topic", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	c, err := mqtt5.Open(t.Context(), uplink.ProbeConfig{Endpoint: cfg.Endpoint(), ClientID: "thing-2", CA: cfg.Broker.CA, Access: access, Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := p.used.Load(); n != 2 {
		t.Errorf("%d connections went through the proxy, want 2", n)
	}
}

// A whole daemon delivers and takes orders without a certificate.
func TestDaemonWithPassword(t *testing.T) {
	of := passwords(t)
	s := daemontest.EmptySite(t, filepath.Dir(filepath.Dir(of.Broker.CA)))
	s.Addr, s.Files.CA = of.Endpoint(), of.Broker.CA
	cfg := s.Config("", "")
	cfg.Broker = of.Broker
	cfg.Broker.ClientID = "thing-greenhouse"
	r := s.Start(cfg).AwaitLink(t)
	daemontest.Receive(t, "acknowledged record", r.Acked)
	a, _, err := client.SendOrder(t.Context(), cfg, "thing-greenhouse-send-0001", client.OrderRequest{Output: "pump", Action: "on", For: time.Minute, Life: time.Minute}, daemontest.Patience, slog.New(slog.DiscardHandler))
	if err != nil || a.Status != "done" {
		t.Errorf("%+v, %v", a, err)
	}
}

// The doctor finds nothing wrong with passwords and proxies that work, and names what is wrong
// with those that do not.
func TestDoctorKnowsPasswordsAndProxies(t *testing.T) {
	for name, c := range map[string]struct {
		change           func(t *testing.T, b *config.Broker, p *proxy)
		step, code, says string
	}{
		"all is well": {func(*testing.T, *config.Broker, *proxy) {}, "", "", ""},
		"wrong password": {func(t *testing.T, b *config.Broker, _ *proxy) {
			write(t, b.PasswordFile, []byte("guess\n"))
		}, "connect", "connect_refused", "broker.password_file"},
		"no user name": {func(_ *testing.T, b *config.Broker, _ *proxy) {
			b.Username, b.PasswordFile = "", ""
		}, "connect", "connect_refused", "broker.username"},
		"empty password": {func(t *testing.T, b *config.Broker, _ *proxy) {
			write(t, b.PasswordFile, nil)
		}, "credentials", "certificate_unusable", "the password has 0 bytes"},
		"proxy wants a password": {func(_ *testing.T, b *config.Broker, p *proxy) {
			b.Proxy = strings.Replace(p.url, "me:mine@", "", 1)
		}, "tcp 8883", "proxy_refused", "wants a user name and a password"},
		"proxy forbids":  {func(_ *testing.T, _ *config.Broker, p *proxy) { p.status = "403 Forbidden" }, "tcp 8883", "proxy_refused", "does not allow connections"},
		"proxy cannot":   {func(_ *testing.T, _ *config.Broker, p *proxy) { p.status = "502 Bad Gateway" }, "tcp 8883", "network_down", "cannot connect"},
		"no proxy there": {func(_ *testing.T, b *config.Broker, _ *proxy) { b.Proxy = "http://127.0.0.1:1" }, "tcp 8883", "network_down", "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := passwords(t)
			p := newProxy(t)
			cfg.Broker.Proxy = p.url
			c.change(t, &cfg.Broker, p)
			report, err := doctor.Examine(t.Context(), doctor.Options{Config: cfg, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range report.Steps {
				step := s.Name
				if strings.HasPrefix(step, "tcp ") {
					step = "tcp 8883" // mosquitto's port is another one each time
				}
				if s.Outcome != doctor.Failed {
					continue
				}
				if said := s.Found + s.Meaning + s.Cure; step != c.step || s.Code != c.code || !strings.Contains(said, c.says) || s.Inferred {
					t.Errorf("want %s at %q: %s; got %+v", c.code, c.step, c.says, s)
				}
				return
			}
			if c.step != "" {
				t.Errorf("nothing failed: %+v", report.Steps)
			}
		})
	}
}
