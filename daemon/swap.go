package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/local"
	"fieldpost/daemon/output"
	"fieldpost/daemon/page"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// ErrStopping is the reason when a daemon that stops takes no other configuration.
var ErrStopping = errors.New("the daemon is stopping")

const (
	// partPatience is how long a swap waits for a part of the daemon to follow. A line,
	// a bus or a disk may hang; the part follows all the same when that is over.
	partPatience = 15 * time.Second
	// filesPatience is how long the files of new credentials may take to be read.
	filesPatience = 5 * time.Second
	// linkPatience is the same for the link, which may be about to connect.
	linkPatience = 45 * time.Second
)

// Changes says what a swap has changed, by name, in the order of the configuration.
type Changes struct {
	Sensors  SensorChanges
	Outputs  output.Changes  // of no output where none has changed
	Settings []config.Change // all others
	Connect  []string        // for which settings the link connects again, by key; none where it does not
	Slow     []string        // what has not followed yet, because something hangs, and will
}

// SensorChanges says what has become of the sensors.
type SensorChanges struct {
	Kept    []string // go on untouched
	Changed []string // were closed and opened again; their numbers go on
	Removed []string
	Added   []string
}

// Any reports whether anything has changed.
func (c SensorChanges) Any() bool { return len(c.Changed)+len(c.Removed)+len(c.Added) > 0 }

// Swap has the daemon go by another configuration, as package config has checked it,
// from now on. It may be called from any goroutine while Run runs; swaps follow one
// another.
//
// What has not changed is not touched: no line is set or released, no sensor opened
// again, no reading or edge lost, no number of a sensor used again, and the link goes on.
// What has changed of the broker, or as whom we connect to it, takes a new connection;
// what waits then goes there.
//
// A configuration that cannot hold is refused whole, and the one before goes on: where
// a key has changed that needs a restart, or the new credentials cannot be used. The
// error says which. It is or wraps [ErrStopping] when the daemon stops, and ctx's where
// that ends before anything has changed. After that ctx does not matter: what is begun is done.
func (d *Daemon) Swap(ctx context.Context, cfg *config.Config) (Changes, error) {
	if err := d.turn.take(ctx, d.stopping); err != nil {
		return Changes{}, fmt.Errorf("swap configuration: %w", err)
	}
	defer d.turn.giveBack()
	return d.swapInTurn(cfg)
}

// swapInTurn is [Daemon.Swap] for who has begun.
func (d *Daemon) swapInTurn(cfg *config.Config) (Changes, error) {
	before, after, err := d.compareTo(cfg)
	if err != nil {
		return Changes{}, err
	}
	if d.stopping.Err() != nil { // while the new credentials were read: the parts may have ended
		return Changes{}, fmt.Errorf("swap configuration: %w", ErrStopping)
	}
	x := &swap{d: d, before: before, after: after}
	if err := d.guardSwap(x.run); err != nil {
		return x.changes, err
	}
	if d.stopping.Err() != nil {
		return x.changes, fmt.Errorf("swap configuration: %w", ErrStopping)
	}
	d.log.Info("configuration swapped", "sensors", len(cfg.Sensors), "outputs", len(cfg.Outputs), "sensors_changed", x.changes.Sensors.Any(),
		"outputs_changed", x.changes.Outputs.Any(), "connects_for", strings.Join(x.changes.Connect, ", "), "slow", strings.Join(x.changes.Slow, ", "))
	return x.changes, nil
}

// guardSwap calls swap. A panic leaves the parts of the daemon between two configurations.
// So it ends the daemon, like the panic of a part, whoever has asked for the swap.
func (d *Daemon) guardSwap(swap func()) error {
	err := task.Guard(func() error {
		swap()
		return nil
	})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("swap configuration: %w", err)
	select {
	case d.failed <- err:
	default: // the daemon ends already
	}
	return err
}

// compareTo returns the present generation and that of another configuration. The error says
// why the second one cannot replace the first.
func (d *Daemon) compareTo(cfg *config.Config) (before, after *generation, err error) {
	before = d.generation()
	if err := refuse(before.config, cfg); err != nil {
		return nil, nil, err
	}
	after = d.newGeneration(cfg, before)
	return before, after, examine(before, after, d.o.Clock.Now().Wall)
}

// turn lets one swap run at a time. It holds one token while Run runs and no swap does.
type turn chan struct{}

// take waits for the token. The caller must give it back. The error is ctx's, or [ErrStopping]
// once stopping has ended.
func (t turn) take(ctx, stopping context.Context) error {
	select {
	case <-t:
		if stopping.Err() == nil {
			return nil
		}
		t.giveBack()
	case <-stopping.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return ErrStopping
}

// giveBack lets the next swap begin.
func (t turn) giveBack() { t <- struct{}{} }

// refuse says which keys have changed that cannot while the daemon runs.
func refuse(before, after *config.Config) error {
	var problems config.Errors
	for _, k := range []struct {
		path, why string
		old, next any
	}{
		{"broker.provisioning", "the certificate would come from elsewhere", provisions(before), provisions(after)},
		{"thing", "its messages would look like another board's, and it would carry out that board's orders", before.Thing, after.Thing},
		{"spool.dir", "what waits there would not be sent", before.Spool.Dir, after.Spool.Dir},
		{"spool.at_risk", "the spool reads it only at the start", before.Spool.AtRisk, after.Spool.AtRisk},
		{"spool.max_bytes", "the spool reads it only at the start", before.Spool.MaxBytes, after.Spool.MaxBytes},
		{"spool.max_age", "the spool reads it only at the start", before.Spool.MaxAge, after.Spool.MaxAge},
	} {
		if k.old != k.next {
			problems = append(problems, &config.Error{
				File: after.File, Line: after.Line(k.path), Path: k.path, Value: fmt.Sprint(k.next),
				Reason: fmt.Sprintf("cannot change from %v while the daemon runs: %s; change it back, or restart the daemon", k.old, k.why),
			})
		}
	}
	if problems != nil {
		return problems
	}
	return nil
}

// provisions says whether the certificate comes by provisioning.
func provisions(cfg *config.Config) string {
	if cfg.Broker.Provisioning.Enabled() {
		return "on"
	}
	return "off"
}

// examine says why a generation cannot take the place of another: its link has no
// meaning, or new credentials cannot be used.
func examine(before, after *generation, now time.Time) error {
	if _, err := uplink.New(after.link); err != nil {
		return config.Errors{{File: after.config.File, Line: after.config.Line("broker"), Path: "broker", Reason: err.Error(), Err: err}}
	}
	if after.files == before.files {
		return nil
	}
	return task.Within(filesPatience, "read the credentials", func() error { return examineFiles(after.config, now) })
}

// examineFiles says which of the three files of the credentials cannot be used.
func examineFiles(cfg *config.Config, now time.Time) error {
	b := cfg.Broker
	keys := map[string]string{b.CA: "broker.ca", b.Certificate: "broker.certificate", b.Key: "broker.key", b.PasswordFile: "broker.password_file"}
	var problems config.Errors
	for _, p := range uplink.CheckFiles(uplink.CredentialFilesConfig{CA: b.CA, Certificate: b.Certificate, Key: b.Key, Password: b.PasswordFile}, now) {
		if !p.Warning && !(b.Provisioning.Enabled() && p.File == b.Certificate) { // that one is the daemon's own
			key := cmp.Or(keys[p.File], "broker")
			problems = append(problems, &config.Error{File: cfg.File, Line: cfg.Line(key), Path: key, Reason: visible.Text(p.File) + ": " + p.What + "; " + p.Do})
		}
	}
	if problems != nil {
		return problems
	}
	return nil
}

// swap has all parts of a daemon follow from one generation to the next. Nothing in it
// can refuse; what hangs follows later.
type swap struct {
	d             *Daemon
	before, after *generation
	changes       Changes
}

func (x *swap) run() {
	d, before, after := x.d, x.before, x.after
	x.changes.Settings = config.ChangedSettings(before.config, after.config)
	d.health.Know(either(after.subjects, before.subjects))
	if after.files != before.files {
		fetching := d.fetching.Swap(task.Start("credentials", d.failed, after.files.Run))
		defer x.follow("credentials", partPatience, func(context.Context) error {
			d.health.Clear(health.CertificateStuck, broker)
			return fetching.Stop(time.Second)
		})
	}
	d.present.Store(after)
	x.pins()
	d.sampler.SetLinger(after.config.Readings.Linger)
	d.box.Reconfigure(after.config)
	x.orders()
	x.metrics()
	x.page()
	d.health.Know(after.subjects)
	d.swapped.Set()
}

// follow has a part follow, and notes one that does not in time.
func (x *swap) follow(part string, patience time.Duration, f func(context.Context) error) (done bool) {
	ctx, cancel := context.WithTimeout(x.d.stopping, patience)
	defer cancel()
	err := f(ctx)
	if err == nil || x.d.stopping.Err() != nil {
		return err == nil
	}
	x.d.log.Warn("a part does not use the new configuration yet", "part", part, "err", err)
	x.changes.Slow = append(x.changes.Slow, part)
	return false
}

// orders has the dispatcher and the link follow. The dispatcher knows a new topic before
// anything can come on it; and it takes orders without id and expiry only while nothing
// can have stored them with the broker: not before the link's session is a clean one.
func (x *swap) orders() {
	settings := x.after.orders()
	settings.Unstamped = settings.Unstamped && x.before.unstamped() && !x.d.behind
	x.d.dispatcher.Reconfigure(settings)
	if x.connection() {
		x.d.dispatcher.Reconfigure(x.after.orders())
	}
}

// connection has the link follow, if there is anything new for it. If it has not followed the
// swap before, it is behind the present generation and is told in any case.
func (x *swap) connection() (done bool) {
	if !x.d.behind && sameLink(x.before, x.after) {
		return true
	}
	done = x.follow("link", linkPatience, func(ctx context.Context) (err error) {
		x.changes.Connect, err = x.d.reconfigureLink(ctx, x.after)
		return err
	})
	select {
	case <-x.d.late: // of a swap before
	default:
	}
	if x.d.behind = !done; x.d.behind {
		x.d.late <- x.after
	}
	return done
}

// reconfigureLink has the link follow to a generation. It returns when it has, or when ctx
// ends; the link follows all the same. The settings are those that need a new connection.
func (d *Daemon) reconfigureLink(ctx context.Context, g *generation) (settings []string, err error) {
	c := g.link
	c.Unsubscribe, c.Unsubscribed = d.subscriptions.Want(c.ClientID, g.session), d.subscriptions.Released
	return d.link.Reconfigure(ctx, c)
}

// followLate waits for a link that has not followed a swap in time, until ctx ends. Then
// orders without id and expires are accepted if the present generation says so.
func (d *Daemon) followLate(ctx context.Context) error {
	for {
		var g *generation
		select {
		case <-ctx.Done():
			return nil
		case g = <-d.late:
		}
		if _, err := d.reconfigureLink(ctx, g); err != nil {
			d.log.Debug("the link does not use its new configuration", "err", err) // ctx has ended: New has checked the rest
			continue
		}
		if d.turn.take(ctx, d.stopping) != nil {
			continue // ctx has ended, or soon does
		}
		if d.behind && d.generation() == g {
			d.behind = false
			d.dispatcher.Reconfigure(g.orders())
			d.log.Info("the link uses the new configuration now")
		}
		d.turn.giveBack()
	}
}

// metrics has the metrics served at another address, or at none. A port that is taken by
// somebody else is a fault.
func (x *swap) metrics() {
	if reflect.DeepEqual(x.before.config.Local, x.after.config.Local) {
		return
	}
	if before := x.d.metering.Swap(nil); before != nil {
		x.follow("metrics", partPatience, func(context.Context) error { return before.Stop(metricsPatience) })
		x.d.health.Clear(health.MetricsUnavailable, local.MetricsSubject)
	}
	x.d.metering.Store(socketCalls{x.d}.serveMetrics(x.after.config))
}

// page has the page served as the new configuration says. What it shows of sensors and outputs
// follows by itself.
func (x *swap) page() {
	if reflect.DeepEqual(x.before.config.Local, x.after.config.Local) {
		return
	}
	if before := x.d.paging.Swap(nil); before != nil {
		x.follow("page", partPatience, func(context.Context) error { return before.Stop(metricsPatience) })
		x.d.health.Clear(health.PageUnavailable, page.Subject)
	}
	x.d.paging.Store(socketCalls{x.d}.servePage(x.after.config))
}

// sameLink reports whether two generations say the same to the link.
func sameLink(a, b *generation) bool {
	if a.files != b.files || a.config.ReadingsTopic("") != b.config.ReadingsTopic("") { // the farewell's
		return false
	}
	values := func(c uplink.Config) uplink.Config {
		c.Files, c.Outbox, c.Log = nil, nil, nil
		for _, f := range reflect.ValueOf(&c).Elem().Fields() {
			if f.Kind() == reflect.Func && f.CanSet() { // never equal to itself; the daemon's do not change
				f.SetZero()
			}
		}
		return c
	}
	return reflect.DeepEqual(values(a.link), values(b.link))
}

// pins has sensors and outputs follow. A line that goes from a sensor to an output is
// let go of before it is requested again; the other way round that is so anyway.
func (x *swap) pins() {
	old, next := x.before.config, x.after.config
	x.changes.Sensors = sensorChanges(old.Sensors, next.Sensors)
	x.d.seen.keep(x.changes.Sensors.Kept)
	x.d.totals.Configure(sensorNames(next.Sensors))
	x.d.history.Configure(historySettings(next))
	if !reflect.DeepEqual(old.Outputs, next.Outputs) {
		taken := lines(x.d.o.Board, next.Outputs)
		stay := slices.DeleteFunc(slices.Clone(old.Sensors), func(s sensors.Config) bool {
			return slices.ContainsFunc(s.Lines(), func(l sensors.UsedLine) bool {
				id, err := x.d.o.Board.Find(l.Line)
				return err == nil && slices.Contains(taken, id)
			})
		})
		if len(stay) < len(old.Sensors) {
			x.follow("sensors", partPatience, func(ctx context.Context) error { return x.d.sampler.Reconfigure(ctx, stay) })
		}
		x.follow("outputs", partPatience, func(ctx context.Context) (err error) {
			x.changes.Outputs, err = x.d.bank.Reconfigure(ctx, next.Outputs)
			return err
		})
	}
	if x.changes.Sensors.Any() {
		x.follow("sensors", partPatience, func(ctx context.Context) error { return x.d.sampler.Reconfigure(ctx, next.Sensors) })
	}
}

// lines gives the lines of outputs, as far as the board has them.
func lines(b board.Board, outputs []output.Config) (ids []board.LineID) {
	for _, o := range outputs {
		find, name := b.Find, o.Pin
		if o.PWM != "" {
			find, name = b.FindPWM, o.PWM
		}
		if id, err := find(name); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// sensorChanges compares the sensors of two configurations.
func sensorChanges(old, next []sensors.Config) (c SensorChanges) {
	before := map[string]sensors.Config{}
	for _, s := range old {
		before[s.Name] = s
	}
	for _, s := range next {
		was, known := before[s.Name]
		delete(before, s.Name)
		switch {
		case !known:
			c.Added = append(c.Added, s.Name)
		case reflect.DeepEqual(was, s):
			c.Kept = append(c.Kept, s.Name)
		default:
			c.Changed = append(c.Changed, s.Name)
		}
	}
	for _, s := range old {
		if _, gone := before[s.Name]; gone {
			c.Removed = append(c.Removed, s.Name)
		}
	}
	return c
}

// either gives the subjects of two lists; of a name that both have, the first one's.
func either(first, second []health.Subject) []health.Subject {
	all := slices.Clone(first)
	for _, s := range second {
		if !slices.ContainsFunc(first, func(f health.Subject) bool { return f.Name == s.Name }) {
			all = append(all, s)
		}
	}
	return all
}
