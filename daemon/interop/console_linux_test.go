//go:build browser

package interop

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"

	"github.com/chromedp/chromedp"
)

// demoLink runs `fieldpost demo` until the end of the test and returns the URL that it prints.
func demoLink(t *testing.T) (link string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "fieldpost")
	if out, err := exec.Command("go", "build", "-o", program, "fieldpost/cmd/fieldpost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command(program, "demo", "--dir", filepath.Join(dir, "demo"), "--orders", "1h")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	links := make(chan string, 1)
	stop := daemontest.Background(t, func(context.Context) error {
		defer close(links)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if f := strings.Fields(lines.Text()); len(f) == 2 && f[0] == "page" {
				links <- f[1]
			}
		}
		return nil
	})
	t.Cleanup(func() {
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil { // its output ends with it
			t.Error(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("the demo: %v", err)
		}
	})
	link, ok := <-links
	if !ok {
		t.Fatal("the demo prints no URL")
	}
	return link
}

// The page of the demo subscribes and publishes at its broker. Whatever comes is text.
func TestPageConsole(t *testing.T) {
	ctx := browser(t)
	link := demoLink(t)
	do(t, ctx, "look", chromedp.Navigate(link), shows("#live", "Live, and connected to the broker"), shows("#mqtt", "Topic filter", "Subscribe"), until("!document.querySelector('#pub').disabled"))
	do(t, ctx, "subscribe to nonsense", chromedp.SetValue("#filter", "a#", chromedp.ByQuery), chromedp.SendKeys("#filter", "\r", chromedp.ByQuery), shows("#sub-said", "Not subscribed: filter: may have # only as its last level"))
	do(t, ctx, "subscribe by the keyboard", chromedp.SetValue("#filter", "test/#", chromedp.ByQuery), chromedp.SendKeys("#filter", "\r", chromedp.ByQuery), shows("#messages", "test/topic", "QoS 1", `"sensor": "air"`), shows("#sub-said", "Subscribed to test/#: "))

	const hostile = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`
	do(t, ctx, "publish what is hostile", chromedp.SetValue("#pub-topic", "test/<b>bold</b>", chromedp.ByQuery), chromedp.SetValue("#pub-payload", hostile, chromedp.ByQuery), chromedp.Click("#pub-retain", chromedp.ByQuery), chromedp.Click("#pub", chromedp.ByQuery),
		shows("#pub-said", "Published to test/<b>bold</b>"), shows("#messages", "test/<b>bold</b>", hostile))
	var pwned, inside bool
	do(t, ctx, "see that it is text", chromedp.Evaluate("window.pwned === 1", &pwned), chromedp.Evaluate("document.querySelector('#messages img, #messages script, #messages b b') !== null", &inside))
	if pwned || inside {
		t.Errorf("a payload is more than text: ran %v, in the page %v", pwned, inside)
	}
	do(t, ctx, "publish to a wildcard", chromedp.SetValue("#pub-topic", "test/#", chromedp.ByQuery), chromedp.Click("#pub", chromedp.ByQuery), shows("#pub-said", "Not published: topic: has a wildcard"))

	do(t, ctx, "order", chromedp.Click("#pub-retain", chromedp.ByQuery), chromedp.Click("#pub-order", chromedp.ByQuery), chromedp.Click("#pub", chromedp.ByQuery), shows("#messages", `"kind": "answer"`, `"status": "done"`), shows("[data-output=pump]", "On", "by an order from the broker"))
	photograph(t, ctx, "console")
	do(t, ctx, "subscribe again", chromedp.Click("#sub", chromedp.ByQuery), shows("#messages", hostile, "retained"))
	do(t, ctx, "stop", chromedp.Click("#sub-stop", chromedp.ByQuery), shows("#sub-said", "Not subscribed."), until("document.activeElement.id === 'sub'"))

	do(t, ctx, "forbid orders", chromedp.Click("#account", chromedp.ByQuery), until("document.querySelector('#pub').disabled"))
	var most int
	do(t, ctx, "count", chromedp.Evaluate("document.querySelectorAll('#messages > li').length", &most))
	if most > 100 {
		t.Errorf("%d messages are kept", most)
	}
}

// A daemon that is no demo has no such view.
func TestPageWithoutConsole(t *testing.T) {
	ctx := browser(t)
	s, cfg, link := pageSite(t)
	s.Start(cfg).AwaitLink(t)
	awaitPage(t, link)
	do(t, ctx, "look", chromedp.Navigate(link), shows("#live", "Live, and connected to the broker"), until("document.querySelector('#mqtt').hidden"))
	c := &http.Client{Timeout: time.Minute}
	a, err := c.Get(link + "mqtt?filter=a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusNotFound {
		t.Errorf("%d", a.StatusCode)
	}
}
