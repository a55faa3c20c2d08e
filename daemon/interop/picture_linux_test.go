//go:build browser

package interop

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// pace is how much faster the daemon's clock goes while the picture is made.
const pace = 60

// TestPicture makes the picture of the page for the README: `make pictures`. An hour of the
// daemon's takes a minute.
func TestPicture(t *testing.T) {
	file := os.Getenv("FIELDPOST_PICTURE")
	if file == "" {
		t.Fatal("FIELDPOST_PICTURE is not set: run `make pictures`")
	}
	ctx := browser(t)
	s, cfg, link := pageSite(t)
	soil := s.Bus.AddTMP102(0x49)
	cfg = s.Config(`  - {name: soil, chip: tmp102, bus: i2c-1, address: 0x49, every: 200ms}
  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true, debounce: 20ms}`,
		`  - {name: fan, pin: GPIO5, safe: off, safe_after: 5m, max_on: 2h}
local: {listen: "`+cfg.Local.Listen+`", token_file: page.token}`)
	begin := time.Now()
	fast := clock.Func(func() clock.Stamp {
		since := pace * time.Since(begin)
		return clock.Stamp{Boot: "picture", Mono: time.Hour + since, Wall: begin.Add(since).UTC(), Synced: true}
	})
	s.Board.SetMono(func() time.Duration { return fast.Now().Mono })
	d, err := daemon.New(daemon.Options{
		Config: cfg, LoadConfig: func() (*config.Config, error) { return config.Load(cfg.File) }, Board: s.Board, Clock: fast,
		Runtime: s.Dir, Version: "v0.2.0", Log: daemontest.Log(t), Notify: &systemd.Notifier{Send: func(string) error { return nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Background(t, d.Run)
	awaitPage(t, link)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range int(time.Hour / pace / (50 * time.Millisecond)) {
		<-tick.C
		x := time.Since(begin).Seconds() * pace / 3600
		s.Air.SetTemperature(22 + 3*math.Sin(5*x) + 0.4*math.Sin(41*x))
		s.Air.SetHumidity(58 - 9*math.Sin(5*x) + math.Sin(53*x))
		soil.SetTemperature(17 + x + 0.2*math.Sin(17*x))
	}
	var png []byte
	do(t, ctx, "look", chromedp.Navigate(link+"#token=a%20token%20for%20the%20tests"),
		emulation.SetDeviceMetricsOverride(1180, 900, 1, false),
		shows("#live", "Live, and connected to the broker"), shows("[data-output=fan]", "Switch on"), until("document.querySelectorAll('.plot canvas').length >= 4"),
		chromedp.Evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))", nil, awaitPromise),
		chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Clean(file), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
