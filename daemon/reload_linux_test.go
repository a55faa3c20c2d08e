package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/local"
	"fieldpost/daemon/systemd"
)

// rewrite puts another text into the site's configuration file, as an editor does.
func rewrite(t *testing.T, s *daemontest.Site, text string) {
	t.Helper()
	path := filepath.Join(s.Dir, "fieldpost.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A reload changes what the file changes, as diff has said, and nothing else: the pump that
// is on has no edge, numbers go on, the link stands.
func TestReload(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r, socket := s.StartWithSocket(s.Config(door, fan))
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	r.AwaitLink(t)
	say(daemontest.Order("c-1", "on", time.Hour))
	answered(t, heard, "c-1")
	taken := &numbers{t: t}
	taken.until(r.Taken, "air", 2)
	pump := s.Board.Line("GPIO27")
	before := edges(pump)

	none, err := client.AskDiff(t.Context(), socket)
	if err != nil || none.Outputs != nil || none.Settings != nil || none.Reconnects != nil || len(none.Sensors) != 2 || none.Sensors[1].Change != api.Kept {
		t.Errorf("diff of what is the same: %+v, %v", none, err)
	}
	next := s.Config(soil, "  - {name: fan, pin: GPIO6}\n  - {name: lamp, pin: GPIO13}")
	text, err := os.ReadFile(next.File)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, s, strings.Replace(string(text), "  topic: test/topic\n", "  topic: test/topic\n  batch: {max: 2}\n", 1))
	said, err := client.AskDiff(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	want := api.Changes{
		File:     next.File,
		Sensors:  []api.Change{{Name: "air", Change: "kept"}, {Name: "door", Change: "removed"}, {Name: "soil", Change: "added"}},
		Outputs:  []api.Change{{Name: "pump", Change: "kept"}, {Name: "fan", Change: "changed"}, {Name: "lamp", Change: "added"}},
		Settings: []api.Setting{{Key: "readings.batch.max", Before: "0", After: "2"}},
	}
	if fmt.Sprint(said) != fmt.Sprint(want) {
		t.Errorf("diff says\n%+v, want\n%+v", said, want)
	}
	if _, held := s.Board.Holder(s.Board.Line("GPIO13").ID()); held {
		t.Error("diff has requested the lamp")
	}
	done, err := client.AskReload(t.Context(), socket)
	if err != nil || fmt.Sprint(done) != fmt.Sprint(said) {
		t.Errorf("reload: %+v, %v; diff has said %+v", done, err, said)
	}
	taken.until(r.Taken, "soil", 2)
	taken.until(r.Taken, "air", taken.last["air"]+2)
	if edges(pump) != before {
		t.Errorf("the pump's line: %v", pump.History())
	}
	if _, driven := s.Board.Line("GPIO13").Level(); !driven {
		t.Error("the lamp is not ours")
	}
	select {
	case st := <-r.Linked:
		t.Errorf("the link has changed: %+v", st)
	default:
	}
	moved := strings.Replace(string(text), "broker:\n", "broker:\n  keep_alive: 1m\n  will: none\n", 1)
	rewrite(t, s, moved)
	if said, err = client.AskDiff(t.Context(), socket); err != nil || fmt.Sprint(said.Reconnects) != "[keep_alive will]" {
		t.Errorf("diff of the broker's: %+v, %v", said, err)
	}
	if done, err = client.AskReload(t.Context(), socket); err != nil || fmt.Sprint(done.Reconnects) != "[keep_alive will]" {
		t.Errorf("reload of the broker's: %+v, %v", done, err)
	}
	r.AwaitLink(t)
}

// A configuration that is wrong, in whatever way, is refused whole, with all its problems
// and their lines, by diff as by reload; the one before goes on, and nothing has an edge.
func TestReloadIsRefusedWhole(t *testing.T) {
	s, other := daemontest.NewSite(t, nil), daemontest.NewSite(t, nil)
	good := s.Config("", "")
	text, err := os.ReadFile(good.File)
	if err != nil {
		t.Fatal(err)
	}
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r, socket := s.StartWithSocket(good)
	r.AwaitLink(t)
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	say(daemontest.Order("c-1", "on", time.Hour))
	answered(t, heard, "c-1")
	taken, pump := &numbers{t: t}, s.Board.Line("GPIO27")
	before := edges(pump)
	with := func(old, next string) func() {
		return func() { rewrite(t, s, strings.Replace(string(text)+fan+"\n", old, next, 1)) }
	}
	place := func(make func(path string) error) func() {
		return func() {
			if err := errors.Join(os.Remove(good.File), make(good.File)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, c := range map[string]struct {
		make  func()
		wants []string
	}{
		"a mistake":        {with("every: 100ms", "every: often"), []string{":12: sensors[0].every: "}},
		"two mistakes":     {with("test/topic\nspool:", "test/topic\n  nonsense: 1\nspol:"), []string{`:9: commands: unknown key "nonsense"`, `:10: unknown key "spol"`}},
		"no YAML":          {with("thing:", "thing: ["), []string{"fieldpost.yaml:"}},
		"another thing":    {with("thing-greenhouse", "other"), []string{":1: thing: cannot change from thing-greenhouse", "restart the daemon"}},
		"another spool":    {with("dir: spool", "dir: spool2\n  max_age: 1h"), []string{":10: spool.dir: ", ":11: spool.max_age: "}},
		"another's key":    {with("broker:\n", "broker:\n  key: "+other.Files.Key+"\n"), []string{":3: broker.key: ", "does not belong"}},
		"a long client id": {with("broker:\n", "broker:\n  client_id: "+strings.Repeat("x", 70000)+"\n"), []string{"broker", "client"}},
		"nothing":          {func() { rewrite(t, s, "") }, []string{":1: is empty"}},
		"1 MB":             {func() { rewrite(t, s, string(text)+strings.Repeat("# filled\n", 1<<17)) }, []string{"is larger than"}},
		"no file":          {place(func(string) error { return nil }), []string{"there is no such file"}},
		"a directory":      {place(func(p string) error { return os.Mkdir(p, 0o700) }), []string{"want a regular file"}},
		"a FIFO":           {place(func(p string) error { return syscall.Mkfifo(p, 0o600) }), []string{"want a regular file"}},
		"a link to itself": {place(func(p string) error { return os.Symlink(p, p) }), []string{"symbolic links"}},
	} {
		c.make()
		_, diff := client.AskDiff(t.Context(), socket)
		_, reload := client.AskReload(t.Context(), socket)
		var problems config.Errors
		if !errors.As(diff, &problems) || !errors.As(reload, &problems) {
			t.Errorf("%s: diff %v, reload %v", what, diff, reload)
			continue
		}
		for _, want := range c.wants {
			if !strings.Contains(diff.Error(), want) || !strings.Contains(reload.Error(), want) {
				t.Errorf("%s: no %q in\n%v\n%v", what, want, diff, reload)
			}
		}
		for _, p := range problems {
			if p.File != good.File {
				t.Errorf("%s: the file is %q", what, p.File)
			}
		}
		if err := os.Remove(good.File); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		rewrite(t, s, string(text))
	}
	if os.Getuid() != 0 { // who may read everything
		if err := os.Chmod(good.File, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := client.AskReload(t.Context(), socket); err == nil || !strings.Contains(err.Error(), "not allowed to read it") {
			t.Errorf("unreadable: %v", err)
		}
	}
	taken.until(r.Taken, "air", 5)
	if edges(pump) != before {
		t.Errorf("the pump's line: %v", pump.History())
	}
	if _, held := s.Board.Holder(s.Board.Line("GPIO5").ID()); held {
		t.Error("the fan of what was refused is ours")
	}
	if n := len(r.Linked); n > 0 {
		t.Errorf("the link has changed: %+v", <-r.Linked)
	}
}

// Reloads that are asked for at once follow one another, and each reads the file in its
// turn: once none is under way, the daemon goes by what the file has.
func TestReloadsAtOnce(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	var texts []string
	for _, c := range [][2]string{{"", ""}, {door, fan}, {soil, "  - {name: lamp, pin: GPIO6}"}} {
		text, err := os.ReadFile(s.Config(c[0], c[1]).File)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	r, socket := s.StartWithSocket(s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	r.AwaitLink(t)
	taken := &numbers{t: t}
	for round := range 8 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, err := client.AskReload(t.Context(), socket); err != nil {
					t.Error(err)
				}
			})
		}
		rewrite(t, s, texts[round%len(texts)])
		if _, err := client.AskReload(t.Context(), socket); err != nil {
			t.Error(err)
		}
		all.Wait()
		c, err := client.AskDiff(t.Context(), socket)
		if changed := slices.ContainsFunc(c.Sensors, func(x api.Change) bool { return x.Change != api.Kept }); err != nil || changed || c.Outputs != nil {
			t.Errorf("the file differs from what holds: %+v, %v", c, err)
		}
		taken.until(r.Taken, "air", taken.last["air"]+1)
	}
}

// The service manager is told when a reload begins and when it is over, also when it was
// refused.
func TestReloadIsNotified(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	var mu sync.Mutex
	var sent []string
	socket := daemontest.SocketPath(t)
	stop := s.Launch(daemon.Options{
		Config: cfg, LoadConfig: func() (*config.Config, error) { return config.Load(cfg.File) }, Socket: socket, Log: daemontest.Log(t),
		Notify: &systemd.Notifier{Send: func(state string) error {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, strings.SplitN(state, "=", 2)[0])
			return nil
		}},
	})
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	if _, err := client.AskReload(t.Context(), socket); err != nil {
		t.Error(err)
	}
	rewrite(t, s, "nonsense: true")
	if _, err := client.AskReload(t.Context(), socket); err == nil {
		t.Error("nonsense is accepted")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	sent = slices.DeleteFunc(sent, func(s string) bool { return s == "STATUS" })
	if got, want := fmt.Sprint(sent), "[READY RELOADING READY RELOADING READY STOPPING]"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// A stop does not wait for a disk that does not return the file, and who has asked is told.
func TestStopDuringAReload(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	reading, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	socket := daemontest.SocketPath(t)
	stop := s.Launch(daemon.Options{
		Config: s.Config("", ""), Socket: socket, Log: daemontest.Log(t),
		LoadConfig: func() (*config.Config, error) {
			close(reading)
			<-release
			return nil, errors.New("too late")
		},
	})
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	asked := make(chan error, 1)
	go func() {
		_, err := client.AskReload(context.Background(), socket)
		asked <- err
	}()
	daemontest.Receive(t, "the reading", reading)
	if err := stop(); err != nil {
		t.Errorf("the stop: %v", err)
	}
	var said *api.Error
	if err := daemontest.Receive(t, "the answer", asked); !errors.As(err, &said) || said.Code != api.Stopping {
		t.Errorf("who has asked is told %v", err)
	}
	if _, err := client.AskReload(t.Context(), socket); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
}
