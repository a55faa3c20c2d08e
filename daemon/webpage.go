package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/page"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/task"
	"fieldpost/sensors"
)

// maxToken is the size of the largest token file.
const maxToken = 4 << 10

// servePage starts to serve the page that a configuration asks for, and returns the task; nil
// if it asks for none.
func (d socketCalls) servePage(cfg *config.Config) *task.Task {
	opened := d.openedPage(cfg)
	if cfg.Local.Listen == "" {
		return nil
	}
	o := page.Options{
		Address: cfg.Local.Listen, Listener: opened, Hosts: cfg.Local.Hosts, Health: d.health, Log: d.log,
		State:   d.pageState,
		History: func(query []byte) (any, error) { return d.localHistory(query) },
		Console: d.o.Console,
		Now:     func() time.Time { return d.o.Clock.Now().Wall },
		Order: func(ctx context.Context, o api.Order, cause string) (any, error) {
			body, err := json.Marshal(o)
			if err != nil {
				return nil, fmt.Errorf("encode order: %w", err)
			}
			return d.localOrder(ctx, body, cause)
		},
	}
	if file := cfg.Local.TokenFile; file != "" {
		o.Token = func() (string, error) { return readToken(file) }
	}
	s, err := page.New(o)
	if err != nil { // the loader has refused such an address
		d.log.Error("no page", "err", err)
		return nil
	}
	return task.Start("page", d.failed, s.Run)
}

// openedPage returns the listener that the daemon was given, once, if it is that of the
// configuration. Another one is closed.
func (d socketCalls) openedPage(cfg *config.Config) (l net.Listener) {
	l, d.o.PageListener = d.o.PageListener, nil
	if l != nil && l.Addr().String() != cfg.Local.Listen {
		_ = l.Close() // nobody is connected
		return nil
	}
	return l
}

// readToken reads the token of the page.
func readToken(file string) (string, error) {
	b, err := regular.Read(file, maxToken)
	if err != nil {
		return "", fmt.Errorf("local.token_file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// pageState returns what the page shows. It waits for no line, bus or disk. Any goroutine.
func (d socketCalls) pageState() page.State {
	g := d.generation()
	g.files.Refresh() // so that the next state knows a new certificate
	s := page.State{
		Status: d.reportWith(certificateKnown(g)), Symbols: map[string]map[string]string{}, Bounds: map[string]page.Bounds{},
	}
	s.Console = d.o.Console != nil
	s.Demo = strings.HasPrefix(s.Status.Board, "simulated")
	for _, a := range d.dispatcher.Recent() {
		s.Recent = append(s.Recent, page.Recent{
			Time: api.Time(a.Stamp.Wall), Output: a.Output, Status: string(a.Status), State: a.State, Level: a.Level.Pointer(),
			Reason: string(a.Reason), Hint: a.Hint, Cause: a.Cause,
		})
	}
	for _, one := range s.Status.Sensors {
		chip, _ := sensors.Lookup(one.Chip) // a chip without a symbol otherwise
		symbols := map[string]string{}
		for _, f := range one.Values {
			symbols[f.Name] = chip.Symbol(f.Name)
			if unit, other := one.Units[f.Name]; other {
				symbols[f.Name] = sensors.Quantity{Unit: unit}.Symbol()
			}
		}
		s.Symbols[one.Name] = symbols
	}
	for _, o := range g.config.Outputs {
		b := page.Bounds{
			SafeAfter: o.SafeAfter.Seconds(), Refresh: o.Refresh.Seconds(), MaxOn: o.MaxOn.Seconds(),
			MinOn: o.MinOn.Seconds(), MinOff: o.MinOff.Seconds(), PWM: o.PWM != "",
		}
		if level, keeps := o.Safe.Level(); keeps {
			b.Safe = level.String()
		}
		s.Bounds[o.Name] = b
	}
	return s
}
