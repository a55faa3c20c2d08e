package daemon_test

import (
	"bufio"
	"bytes"
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
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
)

// freeAddress is an address of which the port was free a moment ago. Nobody else uses that
// loopback address, so nobody takes the port meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// askMetrics asks for the metrics by a name; "" is what the address says. An error is that of
// the connection.
func askMetrics(address, name string) (status int, text string, err error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, "", err
	}
	if name != "" {
		r.Host = name
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	a, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	return a.StatusCode, string(body), err
}

// awaitMetrics asks until the address answers and ok says yes.
func awaitMetrics(t *testing.T, address string, ok func(string) bool) string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if status, text, err := askMetrics(address, ""); err == nil && status == 200 {
			if last = text; ok(text) {
				return text
			}
		}
	}
	t.Fatalf("the metrics at %s never came to that; the last are\n%s", address, last)
	return ""
}

// value finds the value of a metric as it stands in a text; "" is none.
func value(text, metric string) string {
	m := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(metric) + " (.*)$").FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

// What the metrics say is so, on the socket and at the address; each is what Prometheus reads.
func TestMetrics(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Board.Line("GPIO5").Hold("gpio-keys")
	cfg := s.Config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 1s}", "  - {name: fan, pin: GPIO5}")
	cfg.Local.Metrics = freeAddress(t)
	_, socket := s.StartWithSocket(cfg)
	const reading = `fieldpost_reading{sensor="air",quantity="temperature",unit="Cel"}`
	text := awaitMetrics(t, cfg.Local.Metrics, func(text string) bool {
		return value(text, "fieldpost_link_connected") == "1" && value(text, `fieldpost_sensor_failed_reads_total{sensor="gone"}`) > "0" &&
			value(text, "fieldpost_spool_acknowledged_records_total") > "0" && value(text, `fieldpost_faults{severity="error"}`) == "1" &&
			value(text, "fieldpost_certificate_expiry_timestamp_seconds") != "" && value(text, reading) != "" && value(text, `fieldpost_output_on{output="pump"}`) != ""
	})
	for metric, want := range map[string]string{
		reading: "21.5",
		`fieldpost_fault{code="no_answer",subject="gone",severity="warning",explained_by=""}`: "1",
		`fieldpost_fault{code="line_busy",subject="fan",severity="error",explained_by=""}`:    "1",
		`fieldpost_output_on{output="pump"}`:                                                  "0",
		`fieldpost_output_usable{output="pump"}`:                                              "1",
		`fieldpost_output_usable{output="fan"}`:                                               "0",
		`fieldpost_output_on{output="fan"}`:                                                   "",
		`fieldpost_orders_total{outcome="done"}`:                                              "0",
		`fieldpost_link_connections_total`:                                                    "1",
		`fieldpost_spool_writable`:                                                            "1",
		`fieldpost_clock_synchronised`:                                                        "1",
		`fieldpost_certificate_expiry_timestamp_seconds`:                                      value(text, "fieldpost_certificate_expiry_timestamp_seconds"),
		`fieldpost_spool_max_size_bytes`:                                                      fmt.Sprint(float64(cfg.Spool.MaxBytes)),
		`fieldpost_sensor_failed_reads_total{sensor="air"}`:                                   "0",
		`fieldpost_sensor_info{sensor="gone",chip="lm75",bus="i2c-1"}`:                        "1",
		`fieldpost_board_info{thing="thing-greenhouse",board="` + strings.ReplaceAll(s.Board.String(), `"`, `\"`) + `"}`: "1",
	} {
		if got := value(text, metric); got != want {
			t.Errorf("%s is %q, want %q", metric, got, want)
		}
	}
	if strings.Contains(text, `fieldpost_reading{sensor="gone"`) {
		t.Error("a sensor that never answered has a reading")
	}
	status, local := askHTTP(t, socket, api.GetMetrics, "")
	if status != 200 || value(string(local), "fieldpost_link_connected") != "1" {
		t.Errorf("on the socket: %d\n%s", status, local)
	}
	for _, text := range []string{text, string(local)} {
		if problems, err := promlint.New(bytes.NewReader([]byte(text))).Lint(); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v in\n%s", problems, err, text)
		}
	}
	if status, _, err := askMetrics(cfg.Local.Metrics, "rebound.example"); err != nil || status != http.StatusMisdirectedRequest {
		t.Errorf("by another name: %d, %v", status, err)
	}
}

// The lines of deploy/README.md for node_exporter's textfile collector make a file that it
// reads, without what it has of itself.
func TestTextfileOfTheREADME(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skipf("NOT TESTED with curl: %v", err)
	}
	readme, err := os.ReadFile("../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "For node_exporter's textfile collector")
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, found := strings.Cut(block, "```\n")
	s := daemontest.NewSite(t, nil)
	_, socket := s.StartWithSocket(s.Config("", ""))
	const directory, name = "/var/lib/prometheus/node-exporter", "/run/fieldpost/fieldpost.sock"
	if !found || !strings.Contains(block, directory) || !strings.Contains(block, name) {
		t.Fatalf("the lines are %q", block)
	}
	dir := t.TempDir()
	shell := exec.Command("sh", "-e", "-c", strings.NewReplacer(directory, dir, name, socket).Replace(block))
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "fieldpost.prom"))
	if err != nil || value(string(text), "fieldpost_clock_synchronised") != "1" || strings.Contains(string(text), "process_") || strings.Contains(string(text), "go_goroutines") {
		t.Errorf("%v\n%s", err, text)
	}
	if problems, err := promlint.New(bytes.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// An order shows in the metrics.
func TestMetricsOfOrders(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	cfg.Local.Metrics = freeAddress(t)
	_, socket := s.StartWithSocket(cfg)
	if status, answer := askHTTP(t, socket, api.PostOrder, daemontest.Order("c-1", "on", time.Minute)); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	awaitMetrics(t, cfg.Local.Metrics, func(text string) bool {
		return value(text, `fieldpost_output_on{output="pump"}`) == "1" && value(text, `fieldpost_orders_total{outcome="done"}`) == "1"
	})
}

// A reload moves the metrics to another address, lets others ask, and takes them back.
func TestMetricsFollowTheConfiguration(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	r, _ := s.StartWithSocket(cfg)
	swap := func(address string, hosts ...string) daemon.Changes {
		next := *cfg
		next.Local = config.Local{Metrics: address, Hosts: hosts}
		changes, err := r.Daemon.Swap(t.Context(), &next)
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	always := func(string) bool { return true }
	first, second := freeAddress(t), freeAddress(t)
	if c := swap(first); len(c.Settings) != 1 || c.Settings[0].Path != "local.metrics" || len(c.Connect) > 0 {
		t.Errorf("changes: %+v", c)
	}
	awaitMetrics(t, first, always)
	swap(second)
	awaitMetrics(t, second, always)
	if _, _, err := askMetrics(first, ""); err == nil {
		t.Error("the address from before answers")
	}
	if status, _, err := askMetrics(second, "pi.local"); err != nil || status != http.StatusMisdirectedRequest {
		t.Errorf("by a name that is not allowed: %d, %v", status, err)
	}
	swap(second, "pi.local")
	awaitMetrics(t, second, always)
	if status, _, err := askMetrics(second, "pi.local"); err != nil || status != 200 {
		t.Errorf("by a name that is allowed: %d, %v", status, err)
	}
	swap("")
	if _, _, err := askMetrics(second, ""); err == nil {
		t.Error("the address answers though the configuration has none")
	}
}

// A port that another program has is a fault of the metrics or the page, and costs nothing else. It
// is over when the configuration names another port, which is closed when the daemon ends.
func TestPortInUse(t *testing.T) {
	for code, c := range map[string]struct {
		set     func(*config.Local, string)
		answers func(t *testing.T, address string)
	}{
		"metrics_unavailable": {
			func(l *config.Local, address string) { l.Metrics = address },
			func(t *testing.T, address string) { awaitMetrics(t, address, func(string) bool { return true }) },
		},
		"page_unavailable": {
			func(l *config.Local, address string) { l.Listen = address },
			func(t *testing.T, address string) { visit(t, address, "") },
		},
	} {
		t.Run(code, func(t *testing.T) {
			other, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			s := daemontest.NewSite(t, nil)
			cfg := s.Config("", "")
			c.set(&cfg.Local, other.Addr().String())
			r, socket := s.StartWithSocket(cfg)
			daemontest.AwaitStatus(t, socket, "fault", func(st api.Status) bool {
				return len(st.Faults) == 1 && st.Faults[0].Code == code && strings.Contains(st.Faults[0].Detail, "address already in use")
			})
			daemontest.Await(t, "reading", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
			next, address := *cfg, freeAddress(t)
			c.set(&next.Local, address)
			if _, err := r.Daemon.Swap(t.Context(), &next); err != nil {
				t.Fatal(err)
			}
			c.answers(t, address)
			daemontest.AwaitStatus(t, socket, "end of the fault", func(st api.Status) bool { return len(st.Faults) == 0 })
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
			if conn, err := net.Dial("tcp", address); err == nil {
				_ = conn.Close()
				t.Error("the address answers after the daemon has ended")
			}
		})
	}
}

// A connection that asks nothing does not hold up the end of the daemon.
func TestMetricsAtTheEnd(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	cfg.Local.Metrics = freeAddress(t)
	r, _ := s.StartWithSocket(cfg)
	awaitMetrics(t, cfg.Local.Metrics, func(string) bool { return true })
	c, err := net.Dial("tcp", cfg.Local.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost:"); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(bufio.NewReader(c)); err == nil && len(rest) > 0 {
		t.Logf("it is told %q", rest)
	}
}
