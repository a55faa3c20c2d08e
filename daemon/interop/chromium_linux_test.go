//go:build browser

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/sensors"
	"fieldpost/sensors/sim"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts Chromium, which ends with the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("no browser: %v", err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("disable-dev-shm-usage", true),
	}
	within, over := context.WithTimeout(context.Background(), 4*daemontest.Patience)
	t.Cleanup(over)
	alloc, stop := chromedp.NewExecAllocator(within, options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {})) // of events that it does not know
	t.Cleanup(end)
	do(t, ctx, "start the browser") // it ends with the first context that it sees
	return ctx
}

// do has the browser act.
func do(t *testing.T, ctx context.Context, what string, actions ...chromedp.Action) {
	t.Helper()
	within, over := ctx, context.CancelFunc(func() {})
	if len(actions) > 0 {
		within, over = context.WithTimeout(ctx, daemontest.Patience)
	}
	defer over()
	if err := chromedp.Run(within, actions...); err != nil {
		var text string
		_ = chromedp.Run(ctx, chromedp.Evaluate("document.body.innerText", &text))
		t.Fatalf("%s: %v; the page shows:\n%s", what, err, text)
	}
}

// until waits until an expression of JavaScript is true.
func until(expression string) chromedp.Action {
	return chromedp.Poll(expression, nil, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(0))
}

// shows waits until an element's text contains all of these.
func shows(selector string, texts ...string) chromedp.Action {
	parts := make([]string, 0, len(texts))
	for _, text := range texts {
		quoted, _ := json.Marshal(text) // a string can always be encoded
		parts = append(parts, fmt.Sprintf("document.querySelector(%q).innerText.includes(%s)", selector, quoted))
	}
	return until(strings.Join(parts, " && "))
}

// looks are the ways in which the page is seen.
var looks = []struct {
	name   string
	width  int64
	height int64
	mobile bool
	scheme string
}{
	{"phone-light", 390, 844, true, "light"}, {"phone-dark", 390, 844, true, "dark"},
	{"desktop-light", 1280, 800, false, "light"}, {"desktop-dark", 1280, 800, false, "dark"},
}

// photograph keeps pictures of the whole page in all looks, if FIELDPOST_SCREENSHOTS names a
// directory.
func photograph(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("FIELDPOST_SCREENSHOTS")
	for _, l := range looks {
		var png []byte
		do(t, ctx, "look at "+name+" as "+l.name,
			emulation.SetDeviceMetricsOverride(l.width, l.height, 1, l.mobile),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}),
			until(fmt.Sprintf("innerWidth === %d", l.width)),
			chromedp.Evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))", nil, awaitPromise),
		)
		var wide int64
		do(t, ctx, "measure", chromedp.Evaluate("document.documentElement.scrollWidth", &wide))
		if wide > l.width {
			t.Errorf("%s as %s is %d pixels wide", name, l.name, wide)
		}
		accessible(t, ctx, name+" as "+l.name)
		if dir == "" {
			continue
		}
		do(t, ctx, "picture", chromedp.FullScreenshot(&png, 100))
		if err := os.WriteFile(filepath.Join(dir, name+"-"+l.name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// accessible has axe-core look at the page, if FIELDPOST_AXE names its axe.min.js.
func accessible(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	file := os.Getenv("FIELDPOST_AXE")
	if file == "" {
		return
	}
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	do(t, ctx, "run axe", chromedp.Evaluate(string(script)+";0", nil), chromedp.Evaluate("axe.run().then((r) => r.violations)", &found, awaitPromise))
	for _, v := range found {
		for _, n := range v.Nodes {
			t.Errorf("%s: %s: %s: %s\n%s", what, v.ID, v.Help, n.HTML, n.FailureSummary)
		}
	}
}

// pageSite is a site whose daemon serves the page.
func pageSite(t *testing.T) (s *daemontest.Site, cfg *config.Config, link string) {
	t.Helper()
	s = daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	s.Board.Line("GPIO17")
	// An address of its own, so that nobody takes the port meanwhile.
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "page.token"), []byte("a token for the tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg = s.Config(`  - {name: soil, chip: tmp102, bus: i2c-1, address: 0x48, every: 200ms}
  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true, debounce: 20ms}`,
		`  - {name: fan, pin: GPIO5, safe: on, safe_after: 5m}
local: {listen: "`+at+`", token_file: page.token}`)
	return s, cfg, "http://" + at + "/"
}

// awaitPage waits until the page is served.
func awaitPage(t *testing.T, link string) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(daemontest.Patience); time.Now().Before(end); <-again.C {
		if c, err := net.Dial("tcp", strings.Trim(link, "htp:/")); err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("there is no page")
}

// The page shows what the board reads, what is wrong and what to do, and carries out an order
// after a second click.
func TestPageInABrowser(t *testing.T) {
	ctx := browser(t)
	s, cfg, link := pageSite(t)
	s.Start(cfg).AwaitLink(t)
	awaitPage(t, link)
	do(t, ctx, "look", chromedp.Navigate(link),
		shows("#live", "Live, and connected to the broker"), shows("#thing", "thing-greenhouse"),
		shows("[data-sensor=air]", "temperature", "21.5", "°C"), shows("[data-sensor=door]", "active", "no"),
		shows("[data-output=pump]", "Off", "since the start of the daemon"), shows("#fault-list", "Nothing. All sensors and outputs work"))
	firstView(t, ctx, "of a browser that has just started")
	do(t, ctx, "look again", chromedp.Reload(), until("performance.getEntriesByName('drawn').length > 0"))
	firstView(t, ctx, "after a reload")
	var buttons int
	do(t, ctx, "see no buttons", chromedp.Evaluate("[...document.querySelectorAll('.output button')].filter((b) => b.offsetParent).length", &buttons))
	if buttons != 0 {
		t.Errorf("%d buttons without the token", buttons)
	}
	do(t, ctx, "show a wrong token", chromedp.Click("#account"), chromedp.SendKeys("#token", "a wrong one\r"), shows("#login-error", "that is not the token"))
	photograph(t, ctx, "login")
	do(t, ctx, "show the token", chromedp.Evaluate("document.querySelector('#token').value = ''; document.querySelector('#who').value = 'Anna'", nil), chromedp.SendKeys("#token", "a token for the tests\r"), until("!document.querySelector('#login').open"))
	photograph(t, ctx, "live")

	do(t, ctx, "order", chromedp.Click("[data-output=pump] .buttons button:nth-child(1)", chromedp.ByQuery), shows("[data-output=pump] .confirm", "Switch pump on?"))
	if high, _ := s.Board.Line("GPIO27").Level(); !high { // active low
		t.Error("it was switched without the second click")
	}
	photograph(t, ctx, "confirm")
	do(t, ctx, "confirm", chromedp.Click("[data-output=pump] .confirm .go", chromedp.ByQuery), shows("#said", "pump on for 30s: done"), shows("[data-output=pump]", "On", "by an order from this page, 127.0.0.1 (Anna)"))
	do(t, ctx, "see it among the orders", shows("#order-list", "pump: done, it is on", "this page, 127.0.0.1"))
	if high, _ := s.Board.Line("GPIO27").Level(); high {
		t.Error("the pump is not on")
	}
	photograph(t, ctx, "ordered")
	do(t, ctx, "switch off", chromedp.Click("[data-output=pump] .buttons button:nth-child(2)", chromedp.ByQuery), shows("[data-output=pump] .pill", "Off"))

	s.Air.Fault(sim.NACK)
	do(t, ctx, "see the fault", shows("#fault-list", "air: ", "What to do", "Check its power, its wiring"), shows("[data-sensor=air]", "last value"))
	photograph(t, ctx, "fault")
	s.Air.Fault(sim.Healthy)
	do(t, ctx, "see it go", shows("#fault-list", "Nothing. All sensors and outputs work"))
}

// From the page alone one can tell what is wrong, here five things at once, and what to do.
func TestPageNamesFaults(t *testing.T) {
	ctx := browser(t)
	s, cfg, link := pageSite(t)
	cfg.Sensors[1].Options = sensors.I2C{Bus: "i2c-1", Address: 0x4a} // no chip is there
	s.Board.Line("GPIO5").Hold("relay-tool")                          // another program has the fan's line
	s.Board.Line("GPIO17").Hold("button-tool")                        // and another one that of the door
	cfg.Broker.Endpoint = "127.0.0.1:1"                               // nobody listens there
	s.Air.Fault(sim.Ones)                                             // air answers nonsense
	s.Start(cfg)
	awaitPage(t, link)
	do(t, ctx, "look", chromedp.Navigate(link),
		shows("#fault-list", "fan: ", "relay-tool"), shows("#fault-list", "soil: ", "does not answer"), shows("#fault-list", "air: "),
		shows("#fault-list", "door: ", "button-tool"), shows("#fault-list", "broker: ", "refused"),
		shows("#live", "Live, but the broker is not connected"), shows("[data-output=fan] .pill", "Not known"))
	photograph(t, ctx, "faults")
}

// firstView logs how long the browser has taken from asking for the page until it has painted
// something, and until it had drawn the values.
func firstView(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	var painted, drawn, bytes float64
	do(t, ctx, "measure the first view",
		until("performance.getEntriesByName('first-contentful-paint').length > 0"),
		chromedp.Evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime", &painted),
		chromedp.Evaluate("performance.getEntriesByName('drawn')[0].startTime", &drawn),
		chromedp.Evaluate("performance.getEntries().reduce((n, e) => n + (e.transferSize || 0), 0)", &bytes))
	t.Logf("first view %s: painted after %.0f ms, values after %.0f ms, %.1f KB transferred; 300 ms are aimed at", what, painted, drawn, bytes/1e3)
}

// While the daemon is away, nothing looks live.
func TestPageWithoutItsDaemon(t *testing.T) {
	ctx := browser(t)
	s, cfg, link := pageSite(t)
	r := s.Start(cfg).AwaitLink(t)
	awaitPage(t, link)
	do(t, ctx, "look", chromedp.Navigate(link+"#token="+url.PathEscape("a token for the tests")), shows("#live", "Live"), shows("[data-output=pump]", "Switch on"))
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "see that it is gone", shows("#lost", "No answer from the board since"), shows("#live", "Not live"), until("document.querySelector('[data-output=pump] button').disabled"))
	photograph(t, ctx, "gone")
	s.Start(cfg).AwaitLink(t)
	do(t, ctx, "see it again", until("document.querySelector('#lost').hidden"), shows("#live", "Live"), until("!document.querySelector('[data-output=pump] button').disabled"))
	var where string
	do(t, ctx, "read the URL", chromedp.Evaluate("location.href", &where))
	if where != link {
		t.Errorf("the URL is %s", where)
	}
}

// Where others on this machine have all streams of events, the page still shows what is so now,
// a few seconds later, and says that it is live.
func TestPageWithoutAStream(t *testing.T) {
	ctx := browser(t)
	s, cfg, link := pageSite(t)
	s.Start(cfg).AwaitLink(t)
	awaitPage(t, link)
	taken := 0
	for range 20 {
		c, err := net.Dial("tcp", strings.Trim(link, "htp:/"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			break
		}
		taken++
		drained := daemontest.Background(t, func(context.Context) error {
			_, _ = io.Copy(io.Discard, c) // until it is closed
			return nil
		})
		t.Cleanup(func() { c.Close(); _ = drained() })
	}
	if taken == 20 {
		t.Fatal("there are streams for everybody")
	}
	do(t, ctx, "look", chromedp.Navigate(link), shows("#live", "Live, and connected to the broker"), shows("[data-sensor=air]", "21.5"))
	s.Air.SetTemperature(25.25)
	do(t, ctx, "see the new value", shows("[data-sensor=air]", "25.25"), shows("#live", "Live"))
}

// awaitPromise has an evaluation wait for its promise.
func awaitPromise(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
