package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/task"
)

// turnPatience is how long somebody on the socket waits for the reload before his.
const turnPatience = 30 * time.Second

// Reload reads the configuration file again and has the daemon go by it, as [Daemon.Swap]
// does. cause is for the log, which gets the outcome too. The file is read in turn: of two
// reloads the later one has read the newer file. The service manager is told when it begins
// and when it is over.
//
// A file that is wrong, cannot be read, or is not read within 5 s is refused whole: the error
// wraps [config.Errors], and the configuration before goes on. Other errors are those of
// Swap. Any goroutine, while Run runs.
func (d *Daemon) Reload(ctx context.Context, cause string) (Changes, error) {
	if err := d.turn.take(ctx, d.stopping); err != nil {
		return Changes{}, fmt.Errorf("reload configuration: %w", err)
	}
	defer d.turn.giveBack()
	d.log.Info("reloading the configuration", "cause", cause)
	d.notice(d.o.Notify.Reloading())
	var changes Changes
	err := task.Guard(func() (err error) {
		changes, err = d.reloadInTurn()
		return err
	})
	if d.stopping.Err() == nil {
		d.notice(d.o.Notify.Ready(d.statusLine()))
	}
	if err != nil {
		d.logRefusal(err)
	}
	return changes, err
}

func (d *Daemon) reloadInTurn() (Changes, error) {
	cfg, err := d.loadAgain()
	if err != nil {
		return Changes{}, err
	}
	return d.swapInTurn(cfg)
}

// logRefusal logs each problem of a configuration that was not taken.
func (d *Daemon) logRefusal(err error) {
	if errors.Is(err, ErrStopping) {
		d.log.Warn("the configuration was not reloaded", "err", err)
		return
	}
	var problems config.Errors
	if !errors.As(err, &problems) {
		d.log.Error("the configuration was not reloaded; the previous one stays in use", "err", err)
		return
	}
	for _, p := range problems {
		d.log.Error(p.Error())
	}
	d.log.Error("the configuration was refused; the previous one stays in use", "problems", len(problems))
}

// Diff says what [Daemon.Reload] would change now, and changes nothing: Slow is empty. The
// error is the one with which a reload would be refused. Any goroutine, while Run runs.
func (d *Daemon) Diff(ctx context.Context) (Changes, error) {
	if err := d.turn.take(ctx, d.stopping); err != nil {
		return Changes{}, fmt.Errorf("compare configuration: %w", err)
	}
	defer d.turn.giveBack() // two files at once would need too much memory
	cfg, err := d.loadAgain()
	if err != nil {
		return Changes{}, err
	}
	before, after, err := d.compareTo(cfg)
	if err != nil {
		return Changes{}, err
	}
	c := Changes{
		Sensors:  sensorChanges(before.config.Sensors, cfg.Sensors),
		Settings: config.ChangedSettings(before.config, cfg),
	}
	if !reflect.DeepEqual(before.config.Outputs, cfg.Outputs) {
		c.Outputs = d.bank.Compare(cfg.Outputs)
	}
	if !sameLink(before, after) {
		c.Connect, err = d.link.Compare(after.link)
	}
	return c, err
}

// loadAgain reads the configuration file, with a limit: its disk may hang. Of readers that
// hang there is one at most. Only who has begun may call it.
func (d *Daemon) loadAgain() (*config.Config, error) {
	file := d.config().File
	switch {
	case d.o.LoadConfig == nil:
		return nil, config.Errors{{File: file, Reason: "this daemon was not started from a file; restart it instead"}}
	case !d.loading.CompareAndSwap(false, true):
		return nil, config.Errors{{File: file, Reason: "the last reload has not been able to read it yet; check the disk: `dmesg`"}}
	}
	type result struct {
		config *config.Config
		err    error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.config, r.err = d.readGuarded(file)
		d.loading.Store(false) // before anybody can ask again
		done <- r
	}()
	limit := time.NewTimer(filesPatience)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.config, r.err
	case <-limit.C:
		return nil, config.Errors{{File: file, Reason: fmt.Sprintf("the disk did not return it in %v; check the disk: `dmesg`", filesPatience)}}
	case <-d.stopping.Done():
		return nil, fmt.Errorf("read configuration: %w", ErrStopping)
	}
}

// readGuarded reads the configuration file. A panic is an error of the file.
func (d *Daemon) readGuarded(file string) (cfg *config.Config, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.log.Error("reading the configuration panicked", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			cfg, err = nil, config.Errors{{File: file, Reason: fmt.Sprintf("reading it panicked: %v; please report this as a bug in fieldpost", p)}}
		}
	}()
	return d.o.LoadConfig()
}

// localReload reloads the configuration for somebody on the socket.
func (d socketCalls) localReload(ctx context.Context, from string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	c, err := d.Reload(ctx, from)
	return d.changesAnswer(c, err)
}

// localDiff says to somebody on the socket what a reload would change.
func (d socketCalls) localDiff(ctx context.Context) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	c, err := d.Diff(ctx)
	return d.changesAnswer(c, err)
}

// changesAnswer gives changes, or why there are none, as they are on the wire.
func (d socketCalls) changesAnswer(c Changes, err error) (any, error) {
	var problems config.Errors
	switch {
	case errors.As(err, &problems):
		return nil, refusal(problems)
	case errors.Is(err, ErrStopping):
		return nil, &api.Error{Code: api.Stopping, Text: err.Error(), Hint: "The next start reads the file anyway."}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &api.Error{Code: api.Busy, Text: fmt.Sprintf("another reload has not ended in %v", turnPatience), Hint: "Something hangs; `journalctl -u fieldpost` says what."}
	case errors.Is(err, task.ErrPanicked):
		return nil, &api.Error{Code: api.Internal, Text: "reloading panicked", Hint: "This is a bug in fieldpost; please report it with its log: `journalctl -u fieldpost`."}
	case err != nil:
		return nil, err
	}
	a := api.Changes{File: d.config().File, Reconnects: c.Connect, Slow: c.Slow}
	for _, x := range []struct {
		change string
		names  []string
	}{{api.Kept, c.Sensors.Kept}, {api.Changed, c.Sensors.Changed}, {api.Removed, c.Sensors.Removed}, {api.Added, c.Sensors.Added}} {
		for _, name := range x.names {
			a.Sensors = append(a.Sensors, api.Change{Name: name, Change: x.change})
		}
	}
	o := c.Outputs
	for _, x := range []struct {
		change string
		names  []string
	}{{api.Kept, o.Kept}, {api.Adjusted, o.Adjusted}, {api.Removed, o.Removed}, {api.Added, o.Added}} {
		for _, name := range x.names {
			switch both := slices.Contains(o.Removed, name) && slices.Contains(o.Added, name); {
			case !both:
				a.Outputs = append(a.Outputs, api.Change{Name: name, Change: x.change})
			case x.change == api.Added:
				a.Outputs = append(a.Outputs, api.Change{Name: name, Change: api.Changed})
			}
		}
	}
	for _, s := range c.Settings {
		a.Settings = append(a.Settings, api.Setting{Key: s.Path, Before: s.Before, After: s.After})
	}
	return a, nil
}

// refusal gives the problems of a configuration as they are on the wire.
func refusal(problems config.Errors) *api.Error {
	e := &api.Error{Code: api.BadConfiguration, Text: "the configuration is refused; the previous one stays in use"}
	for _, p := range problems {
		e.Problems = append(e.Problems, api.Problem{File: p.File, Line: p.Line, Key: p.Path, Reason: p.Reason, Value: p.Value})
	}
	return e
}
