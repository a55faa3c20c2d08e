package footprint

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
)

const (
	peerRounds = 3                // of which the median counts
	peerTime   = 15 * time.Second // how long each is measured in a round
	// peerSettle is how long after a start the start's own work is over. fieldpost gives memory
	// back within 12 s, and reads in again what it needs of its program.
	peerSettle = 15 * time.Second
)

// peer is a program that sends ten readings at a time to a broker.
type peer struct {
	name  string
	start func(b *testing.B, m *daemontest.Mosquitto, dir string, every time.Duration) process
}

// cost is what a peer took of the machine.
type cost struct{ cpu, switches, rss, anon float64 }

// What a reading costs beside what others pay for it: each program in turn on one
// mosquitto with mutual TLS, ten sensors read at a time, the medians of some rounds.
// fieldpost runs with what its unit sets for CPU and timers, once without, and once with buses
// that take their time: what ten sensors on such buses cost by themselves, BenchmarkBoard
// tells. The bare loop reads no sensor. Read the
// figures as ratios of one run. fieldpost's process is this test binary with its simulated
// board, hence its size; [BenchmarkIdle] has that of the program.
func BenchmarkPeers(b *testing.B) {
	bare := filepath.Join(b.TempDir(), "bare")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bare, "./testdata/bare")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v: %s", err, out)
	}
	peers := []peer{
		{"fieldpost", func(b *testing.B, m *daemontest.Mosquitto, dir string, every time.Duration) process {
			return startField(b, m, dir, childPlan{every: every})
		}},
		{"fieldpost, all cores and no slack", func(b *testing.B, m *daemontest.Mosquitto, dir string, every time.Duration) process {
			return startField(b, m, dir, childPlan{every: every, allCPUs: true})
		}},
		{"fieldpost, buses of 100 kHz", func(b *testing.B, m *daemontest.Mosquitto, dir string, every time.Duration) process {
			return startField(b, m, dir, childPlan{every: every, byteTime: byteTime100kHz})
		}},
		{"bare Go loop", func(b *testing.B, m *daemontest.Mosquitto, _ string, every time.Duration) process {
			return launch(b, exec.Command(bare, m.Addr, m.CA, m.Cert, m.Key, every.String()), 0)
		}},
		{"bare Go loop, GOMAXPROCS=1", func(b *testing.B, m *daemontest.Mosquitto, _ string, every time.Duration) process {
			c := exec.Command(bare, m.Addr, m.CA, m.Cert, m.Key, every.String())
			c.Env = append(os.Environ(), "GOMAXPROCS=1")
			return launch(b, c, 0)
		}},
	}
	if path := collectd(); path != "" {
		peers = append(peers, peer{"collectd", func(b *testing.B, m *daemontest.Mosquitto, dir string, every time.Duration) process {
			return startCollectd(b, path, m, dir, every)
		}})
	}
	if path, err := exec.LookPath("telegraf"); err == nil {
		peers = append(peers, peer{"Telegraf", func(b *testing.B, m *daemontest.Mosquitto, dir string, every time.Duration) process {
			return startTelegraf(b, path, m, dir, every)
		}})
	}
	for _, every := range []time.Duration{time.Second, 100 * time.Millisecond} {
		table := map[string][]cost{}
		for range peerRounds {
			for _, p := range peers {
				b.Run(fmt.Sprintf("%s every %v", p.name, every), func(b *testing.B) {
					if c, ok := p.measure(b, every); ok {
						table[p.name] = append(table[p.name], c)
					}
				})
			}
		}
		printPeers(peers, table, every)
	}
}

// measure gives what one round of a peer cost, if it was run to its end.
func (p peer) measure(b *testing.B, every time.Duration) (c cost, ok bool) {
	m := daemontest.StartMosquitto(b)
	x := p.start(b, m, b.TempDir(), every)
	<-time.After(peerSettle)
	start, cpu, switches := time.Now(), x.cpu(), x.switches()
	for b.Loop() {
		<-time.After(peerTime)
	}
	readings := 10 * float64(time.Since(start)) / float64(every)
	c = cost{(x.cpu() - cpu).Seconds() * 1e3 / readings, float64(x.switches()-switches) / readings, x.megabytes("VmRSS"), x.megabytes("RssAnon")}
	b.ReportMetric(c.cpu, "cpu-ms/reading")
	b.ReportMetric(c.switches, "switches/reading")
	b.ReportMetric(0, "ns/op")
	return c, true
}

func startField(b *testing.B, m *daemontest.Mosquitto, dir string, plan childPlan) process {
	if err := os.CopyFS(filepath.Join(dir, "certs"), os.DirFS(filepath.Dir(m.CA))); err != nil {
		b.Fatal(err)
	}
	plan.endpoint = m.Addr
	return startChildIn(b, dir, plan)
}

// collectd finds it where Debian puts it, which is not in every user's PATH; "" is none.
func collectd() string {
	for _, name := range []string{"collectd", "/usr/sbin/collectd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startCollectd has collectd publish ten values of the machine at a time: six kinds of memory,
// load, uptime, users and context switches.
func startCollectd(b *testing.B, path string, m *daemontest.Mosquitto, dir string, every time.Duration) process {
	host, port, err := net.SplitHostPort(m.Addr)
	if err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Hostname \"peer\"\nFQDNLookup false\nBaseDir %q\nPIDFile %q\nInterval %g\n", dir, filepath.Join(dir, "pid"), every.Seconds())
	for _, plugin := range []string{"memory", "load", "uptime", "users", "contextswitch", "mqtt"} {
		fmt.Fprintf(&text, "LoadPlugin %s\n", plugin)
	}
	fmt.Fprintf(&text, "<Plugin mqtt>\n<Publish \"peer\">\nHost %q\nPort %s\nClientId \"collectd\"\nQoS 1\nCACert %q\nCertificateFile %q\nCertificateKeyFile %q\n</Publish>\n</Plugin>\n",
		host, port, m.CA, m.Cert, m.Key)
	conf := filepath.Join(dir, "collectd.conf")
	if err := os.WriteFile(conf, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return launch(b, exec.Command(path, "-f", "-C", conf), 0)
}

// startTelegraf has Telegraf's internal inputs make ten metrics at a time.
func startTelegraf(b *testing.B, path string, m *daemontest.Mosquitto, dir string, every time.Duration) process {
	var text strings.Builder
	fmt.Fprintf(&text, "[agent]\ninterval = %q\nflush_interval = %q\nomit_hostname = true\n", every, every)
	fmt.Fprintf(&text, "[[outputs.mqtt]]\nservers = [\"ssl://%s\"]\ntopic = \"test/topic\"\nqos = 1\ntls_ca = %q\ntls_cert = %q\ntls_key = %q\n", m.Addr, m.CA, m.Cert, m.Key)
	for n := range 10 {
		fmt.Fprintf(&text, "[[inputs.mock]]\nmetric_name = \"air-%d\"\n[[inputs.mock.constant]]\nname = \"temperature\"\nvalue = 21.53\n", n)
	}
	conf := filepath.Join(dir, "telegraf.conf")
	if err := os.WriteFile(conf, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return launch(b, exec.Command(path, "--config", conf, "--quiet"), 0)
}

// printPeers prints the medians, and how many times the bare loop's they are.
func printPeers(peers []peer, table map[string][]cost, every time.Duration) {
	median := func(name string, of func(cost) float64) float64 {
		var all []float64
		for _, c := range table[name] {
			all = append(all, of(c))
		}
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	least := median("bare Go loop", func(c cost) float64 { return c.cpu })
	fmt.Printf("\nten sensors every %v, medians of %d rounds of %v:\n\n| | CPU a reading | of the bare loop's | context switches | RSS | anonymous |\n|---|---|---|---|---|---|\n", every, peerRounds, peerTime)
	for _, p := range peers {
		cpu := median(p.name, func(c cost) float64 { return c.cpu })
		fmt.Printf("| %s | %.3f ms | %.2f | %.2f | %.1f MB | %.1f MB |\n", p.name, cpu, cpu/least,
			median(p.name, func(c cost) float64 { return c.switches }), median(p.name, func(c cost) float64 { return c.rss }), median(p.name, func(c cost) float64 { return c.anon }))
	}
	fmt.Println()
}
