package rehearse

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/task"
	"fieldpost/sensors"
	"fieldpost/sensors/sim/simboard"
)

func notTried(why string) []Outcome { return []Outcome{{Verdict: NotTried, Why: why}} }

// broke is the outcome of a rehearsal that could not go on because of the daemon.
func broke(promise int, happened string, err error) []Outcome {
	return []Outcome{{Promise: promise, Verdict: Broken, Happened: happened, Why: err.Error()}}
}

// judged makes an outcome: held unless why is given.
func judged(promise int, happened, why string) Outcome {
	o := Outcome{Promise: promise, Happened: happened, Verdict: Held, Why: why}
	if why != "" {
		o.Verdict = Broken
	}
	return o
}

// start begins a fault. The outcomes are not nil if it cannot go on.
func (s *stage) start() (read []string, outcomes []Outcome) {
	read, err := s.begin()
	if err != nil {
		return nil, broke(4, "before the fault", err)
	}
	return read, nil
}

// startReading is start for a fault that means nothing without a sensor.
func (s *stage) startReading() (read []string, outcomes []Outcome) {
	if len(s.sim.Board.Parts()) == 0 {
		return nil, notTried("the configuration has no sensor that can be simulated")
	}
	read, outcomes = s.start()
	if outcomes == nil && len(read) == 0 {
		return nil, notTried("no sensor gives its first value in time")
	}
	return read, outcomes
}

func sensorGone(s *stage, f Fault) []Outcome {
	read, outcomes := s.startReading()
	if outcomes != nil {
		return outcomes
	}
	if f.Sensor == "" {
		f.Sensor = read[0]
	}
	if !slices.Contains(read, f.Sensor) {
		return notTried(fmt.Sprintf("%s is not simulated, or gives its first value too late", f.Sensor))
	}
	target := s.part(f.Sensor)
	target.Cut(true)
	code := s.named(f.Sensor)
	others := s.others(read, func(p *simboard.Part) bool { return p.Device == target.Device })
	stands := s.goOn(others, 3)
	target.Cut(false)
	back := s.goOn([]string{f.Sensor}, 2)
	happened := fmt.Sprintf("%s was cut off: fault %s; %d other sensors went on; connected again, it was read", f.Sensor, code, len(others))
	var why []string
	if code == "" {
		why = append(why, fmt.Sprintf("no fault of %s was raised", f.Sensor))
	}
	if stands != "" {
		why = append(why, fmt.Sprintf("%s was not read meanwhile", stands))
	}
	if back != "" {
		why = append(why, fmt.Sprintf("%s was not read again after it was connected", f.Sensor))
	}
	if !s.cleared(f.Sensor) {
		why = append(why, fmt.Sprintf("the fault of %s was not cleared after it was connected", f.Sensor))
	}
	return []Outcome{judged(4, happened, strings.Join(why, "; ")), s.settle()}
}

func busStuck(s *stage, f Fault) []Outcome {
	for _, c := range s.cfg.Sensors {
		if f.Bus == "" {
			f.Bus = c.Place().Bus
		}
	}
	if f.Bus == "" {
		return notTried("no sensor is on an I2C bus")
	}
	read, outcomes := s.startReading()
	if outcomes != nil {
		return outcomes
	}
	bus := s.sim.Board.I2C(f.Bus)
	if bus == nil {
		return notTried("bus " + f.Bus + " is not simulated")
	}
	onBus := func(p *simboard.Part) bool { return p.Bus == f.Bus }
	others := s.others(read, onBus)
	mine := s.others(read, func(p *simboard.Part) bool { return !onBus(p) })
	if len(mine) == 0 {
		return notTried("no sensor on bus " + f.Bus + " gives its first value in time")
	}
	before := bus.Transactions()
	bus.Stick()
	code := s.named(mine[0])
	stands := s.goOn(others, 3)
	hung := bus.Transactions() - before
	bus.Release()
	back := s.goOn(mine, 2)
	var why []string
	if code == "" {
		why = append(why, "no fault of a sensor on it was raised")
	}
	if stands != "" {
		why = append(why, fmt.Sprintf("%s, which is not on it, was not read meanwhile", stands))
	}
	if back != "" {
		why = append(why, fmt.Sprintf("%s was not read again after the bus was released", back))
	}
	if !s.cleared(mine[0]) {
		why = append(why, fmt.Sprintf("the fault of %s was not cleared after the bus was released", mine[0]))
	}
	if hung == 0 {
		return notTried("nothing was asked of bus " + f.Bus + " while it hung")
	}
	happened := fmt.Sprintf("%s hung with %d sensors; transactions that hung: %d; fault %s; %d other sensors went on; released, all were read", f.Bus, len(mine), hung, code, len(others))
	return []Outcome{judged(4, happened, strings.Join(why, "; ")), s.settle()}
}

// chatterFor is how long an input chatters.
const chatterFor = 2 * time.Second

// mostEdges bounds the messages of an input that chatters: each change up to its max_edges, which
// it may exceed for a moment by two seconds' worth or ten changes, and then one a second.
func mostEdges(maxEdges int, over time.Duration) int {
	seconds := int(over.Seconds()) + 2
	return max(2*maxEdges, 10) + maxEdges*seconds + seconds
}

func chatteringInput(s *stage, f Fault) []Outcome {
	read, outcomes := s.startReading()
	if outcomes != nil {
		return outcomes
	}
	p, o := s.input(read, f.Sensor)
	if p == nil {
		return notTried("there is no such input (chip gpio)")
	}
	maxEdges := cmp.Or(o.MaxEdges, sensors.DefaultMaxEdges)
	p.Still(true)
	defer p.Still(false)
	since, before := time.Now(), s.edgesOf(p.Sensor)
	ctx, cancel := context.WithTimeout(s.ctx, chatterFor)
	made := p.Chatters.Chatter(ctx, float64(f.Rate))
	cancel()
	if made == 0 {
		return notTried(p.Sensor + " could not be made to chatter")
	}
	// Changes beyond max_edges are a message each second, and those that debounce drops none.
	const own = 2 // changes by itself, which may have been on their way
	again := s.goOn([]string{p.Sensor}, int(2*time.Second/readEvery))
	settled := s.await(func() bool {
		told := s.rec.changes[p.Sensor] - before.changes
		return s.showsLevelLocked(p, o) && (o.Debounce > 0 || told >= int64(made)-own)
	})
	after, most := s.edgesOf(p.Sensor), mostEdges(maxEdges, time.Since(since))
	messages, changes := after.messages-before.messages, after.changes-before.changes
	others := s.others(read, func(q *simboard.Part) bool { return q == p })
	stands := s.goOn(others, 2)
	var why []string
	if !settled && changes < int64(made)-own && o.Debounce == 0 {
		why = append(why, fmt.Sprintf("only %d changes were reported", changes))
	} else if !settled {
		why = append(why, "the last change that was reported did not lead to the level that it has")
	}
	if changes > int64(made)+own {
		why = append(why, fmt.Sprintf("%d changes were reported", changes))
	}
	if messages > most {
		why = append(why, fmt.Sprintf("max_edges %d/s allows %d messages at most", maxEdges, most))
	}
	if stands != "" {
		why = append(why, stands+" was not read meanwhile")
	}
	if again != "" {
		why = append(why, again+" was not read afterwards")
	}
	fault := ""
	s.rec.mu.Lock()
	if s.rec.ever[p.Sensor+" "+string(health.Chatters)] {
		fault = ", fault " + string(health.Chatters)
	}
	s.rec.mu.Unlock()
	happened := fmt.Sprintf("%s changed %d times in %v%s: %d messages told of %d changes, after debounce and max_edges %d/s; %d other sensors went on", p.Sensor, made, chatterFor, fault, messages, changes, maxEdges, len(others))
	return []Outcome{judged(4, happened, strings.Join(why, "; ")), s.settle()}
}

// input returns the input of that name, or the first one, and its settings; nil if there is none.
func (s *stage) input(read []string, name string) (*simboard.Part, sensors.GPIO) {
	for _, c := range s.cfg.Sensors {
		o, ok := c.Options.(sensors.GPIO)
		if p := s.part(c.Name); ok && p != nil && p.Chatters != nil && slices.Contains(read, c.Name) && (name == "" || name == c.Name) {
			return p, o
		}
	}
	return nil, sensors.GPIO{}
}

// showsLevelLocked reports whether the latest change of an input that was a message, or its latest
// reading if none was, led to the level that its line has. The caller holds the recorder's lock.
func (s *stage) showsLevelLocked(p *simboard.Part, o sensors.GPIO) bool {
	m, ok := s.rec.edge[p.Sensor]
	if !ok {
		m = s.rec.last[p.Sensor]
	}
	high, _ := p.Chatters.Level()
	active, ok := m.Field("active").(bool)
	return ok && active == (high != o.ActiveLow)
}

// edges counts the changes of an input.
type edges struct {
	messages int
	changes  int64 // that they stand for
}

func (s *stage) edgesOf(name string) edges {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	return edges{s.rec.edges[name], s.rec.changes[name]}
}

// mostBacklog bounds the readings of a day that are put into the spool.
const mostBacklog = 20000

// leastSpool is the least size of the spool that a day's readings are put into, in bytes. For its
// sake more readings are put there, at most five times as many.
const leastSpool = 1 << 20

// fillSpool puts the readings of a day into the spool, as an earlier run of the daemon that never
// connected. It returns how many there would be, and the factor by which they and the spool's size
// were scaled down.
func (s *stage) fillSpool(long time.Duration, every map[string]time.Duration) (all int, share float64, err error) {
	for _, c := range s.cfg.Sensors {
		all += int(long / max(every[c.Name], time.Second))
	}
	share = mostBacklog / float64(max(all, 1))
	share = min(1, max(share, min(leastSpool/float64(s.cfg.Spool.MaxBytes), 5*share)))
	cfg := s.sim.Config(s.cfg)
	box, err := records.Open(spool.Options{
		Thing: cfg.Thing, Dir: cfg.Spool.Dir, AtRisk: cfg.Spool.AtRisk, MaxBytes: s.scaled(share), MaxAge: cfg.Spool.MaxAge, Clock: s.clock, Log: quiet,
	})
	if err != nil {
		return all, share, err
	}
	failed := make(chan error, 1)
	running := task.Start("spool", failed, box.Run)
	for _, c := range s.cfg.Sensors {
		chip, _ := sensors.Lookup(c.Chip)
		n := int(share * float64(long/max(every[c.Name], time.Second)))
		for i := range n {
			r := message.Record{Kind: message.Reading, Sensor: c.Name, Run: box.RunNumber(), Seq: uint64(i + 1), Stamp: s.clock.Now()}
			for _, q := range chip.QuantitiesOf(c) {
				r.Fields = append(r.Fields, sensors.Field{Name: q.Name, Value: 21.53})
			}
			if err = box.Append(r); err != nil {
				break
			}
			s.rec.take(r)
		}
	}
	return all, share, errors.Join(err, running.Stop(time.Minute), box.Close())
}

// scaled returns the spool's greatest size, scaled down with what is put into it.
func (s *stage) scaled(share float64) int64 {
	return max(int64(float64(s.cfg.Spool.MaxBytes)*share), leastSpool)
}

func brokerGone(s *stage, f Fault) []Outcome {
	every := map[string]time.Duration{}
	for _, c := range s.o.Config.Sensors {
		every[c.Name] = c.Every
	}
	all, share, err := s.fillSpool(f.For, every)
	if err != nil {
		return broke(1, "the readings of a day were put into the spool", err)
	}
	s.prepared = func(c *config.Config) { c.Spool.MaxBytes = s.scaled(share) }
	outcomes := s.outputsOfLostLink()
	delivered := s.settle()
	scaled := ""
	if share < 1 {
		scaled = fmt.Sprintf("; to save time %.1f %% of them, in a spool of that share of max_bytes", share*100)
	}
	delivered.Happened = fmt.Sprintf("the %d readings of %v were put into the spool at once%s: %s", all, f.For, scaled, delivered.Happened)
	if age := s.cfg.Spool.MaxAge; age > 0 && age < f.For {
		delivered.Why = strings.TrimPrefix(delivered.Why+"; ", "; ") + fmt.Sprintf("spool.max_age %v would drop the readings of the first %v, which is reported but was not tried", age, f.For-age)
	}
	return append(outcomes, delivered)
}

// away returns the action that moves an output away from its safe level, and the level that it
// leads to.
func away(o output.Config) (action string, level output.Level) {
	if safe, has := o.Safe.Level(); has && safe > output.Off {
		return "off", output.Off
	}
	return "on", output.On
}

// outputsOfLostLink switches the outputs away from their safe levels, takes the broker away, and
// judges where they go.
func (s *stage) outputsOfLostLink() []Outcome {
	if _, outcomes := s.start(); outcomes != nil {
		return outcomes
	}
	moved, outcomes := s.moveOutputs()
	if err := s.stopBroker(); err != nil {
		return broke(3, "the stand-in broker did not stop", err)
	}
	if !s.await(func() bool { return !s.linked }) {
		return append(outcomes, broke(3, "the broker went away", errors.New("the daemon still says that it is connected"))...)
	}
	for _, o := range moved {
		level, has := o.Safe.Level()
		if !has || o.SafeAfter == 0 {
			why := "it has no safe_after, so a lost link does not make it safe"
			if !has {
				why = fmt.Sprintf("it has safe: %s, so a lost link does not change it", o.Safe)
			}
			outcomes = append(outcomes, Outcome{
				Promise: 3, Verdict: NotTried, Happened: fmt.Sprintf("output %s stays as ordered while the broker is away", o.Name), Why: why,
			})
			continue
		}
		why := ""
		if !s.reaches(o, level) {
			why = fmt.Sprintf("it did not become safe (%s)", o.Safe)
		}
		outcomes = append(outcomes, judged(3, fmt.Sprintf("output %s became safe (%s) after safe_after without a broker", o.Name, o.Safe), why))
	}
	return outcomes
}

// moveOutputs orders each output away from its safe level and returns those that went.
func (s *stage) moveOutputs() (moved []output.Config, outcomes []Outcome) {
	switch {
	case len(s.cfg.Outputs) == 0:
		return nil, []Outcome{{Verdict: NotTried, Promise: 3, Why: "the configuration has no outputs"}}
	case s.cfg.CommandsTopic() == "":
		return nil, []Outcome{{Verdict: NotTried, Promise: 3, Why: "commands.topic is not set, so no order can be sent"}}
	}
	for _, o := range s.cfg.Outputs {
		action, level := away(o)
		id, err := s.send(o.Name, action, 1)
		if err != nil {
			return moved, append(outcomes, broke(2, "an order for "+o.Name+" was sent", err)...)
		}
		happened := fmt.Sprintf("output %s was ordered %s", o.Name, action)
		switch a := s.answered(id); {
		case a.status == "":
			outcomes = append(outcomes, judged(2, happened, "there was no answer"))
		case a.status != "done":
			outcomes = append(outcomes, Outcome{Promise: 3, Verdict: NotTried, Happened: fmt.Sprintf("%s: %s", happened, a), Why: "the order was not carried out, for example because of an interlock"})
		case !brief(o) && !s.at(o, level):
			outcomes = append(outcomes, judged(2, happened+": done", "it is not "+action))
		default:
			moved = append(moved, o)
		}
	}
	return moved, outcomes
}

// brief reports whether an output may go back by itself while it is looked at.
func brief(o output.Config) bool {
	short := func(d time.Duration) bool { return d > 0 && d < 10*time.Minute }
	return short(o.MaxOn) || short(o.Refresh)
}

func stopped(s *stage, _ Fault) []Outcome {
	if len(s.cfg.Outputs) == 0 {
		return notTried("the configuration has no outputs")
	}
	if _, outcomes := s.start(); outcomes != nil {
		return outcomes
	}
	moved, outcomes := s.moveOutputs()
	if _, err := s.stopDaemon(); err != nil {
		return append(outcomes, broke(3, "the daemon was stopped", err)...)
	}
	for _, o := range moved {
		outcomes = append(outcomes, s.afterStop(o))
	}
	return append(outcomes, s.settle())
}

// afterStop judges the level of an output that was moved away before the daemon was stopped: the
// safe one, or with safe: keep the one that was ordered.
func (s *stage) afterStop(o output.Config) Outcome {
	action, ordered := away(o)
	happened, why := fmt.Sprintf("output %s was %s when the daemon was stopped", o.Name, action), ""
	safe, has := o.Safe.Level()
	switch {
	case has && !s.at(o, safe):
		why = fmt.Sprintf("it is not at its safe level, %s", o.Safe)
	case has:
	case s.at(o, ordered):
		happened += fmt.Sprintf(", and stays %s, because it has safe: %s", action, o.Safe)
	case brief(o):
		return Outcome{Promise: 3, Verdict: NotTried, Happened: happened, Why: "max_on may have switched it off before"}
	default:
		why = fmt.Sprintf("it did not stay %s, although it has safe: %s", action, o.Safe)
	}
	return judged(3, happened, why)
}

// wrongBy is how wrong the clock is: a board without a battery-backed clock starts in the past.
const wrongBy = -2 * 365 * 24 * time.Hour

func clockWrong(s *stage, _ Fault) []Outcome {
	s.clock.set(wrongBy, false)
	read, outcomes := s.start()
	if outcomes != nil {
		return outcomes
	}
	if len(s.cfg.Outputs) > 0 && s.cfg.CommandsTopic() != "" {
		o := s.cfg.Outputs[0]
		action, _ := away(o)
		id, err := s.send(o.Name, action, 1)
		if err != nil {
			return broke(2, "an order was sent", err)
		}
		a, why := s.answered(id), ""
		if a.status != "refused" {
			why = fmt.Sprintf("the answer was %q, although it had expired two years before", a.status)
		}
		outcomes = append(outcomes, judged(2, fmt.Sprintf("the clock was two years slow and not synchronised; %s for %s, from that time: %s", action, o.Name, a), why))
	}
	stands := s.goOn(read, 2)
	s.clock.set(0, true)
	if stands == "" {
		stands = s.goOn(read, 2)
	}
	if len(read) > 0 {
		why := ""
		if stands != "" {
			why = stands + " was not read"
		}
		outcomes = append(outcomes, judged(4, fmt.Sprintf("%d sensors were read with the wrong clock, and after it was set", len(read)), why))
	}
	return append(outcomes, s.settle())
}

// mostMoved returns the output that an order storm is about: if there is one, a line that nothing
// but orders moves.
func mostMoved(outputs []output.Config) output.Config {
	for _, good := range []func(output.Config) bool{
		func(o output.Config) bool { return o.Pin != "" && !brief(o) },
		func(o output.Config) bool { return !brief(o) },
		func(o output.Config) bool { return o.Pin != "" },
	} {
		if i := slices.IndexFunc(outputs, good); i >= 0 {
			return outputs[i]
		}
	}
	return outputs[0]
}

func orderStorm(s *stage, f Fault) []Outcome {
	switch {
	case len(s.cfg.Outputs) == 0:
		return notTried("the configuration has no outputs")
	case s.cfg.CommandsTopic() == "":
		return notTried("commands.topic is not set, so orders do not come over MQTT")
	}
	o := mostMoved(s.cfg.Outputs)
	read, outcomes := s.start()
	if outcomes != nil {
		return outcomes
	}
	before := s.moves(o)
	var ids []string
	for range f.Orders {
		id, err := s.send(o.Name, "toggle", 2)
		if err != nil {
			return broke(2, "orders were sent", err)
		}
		ids = append(ids, id)
	}
	done, unanswered := 0, 0
	refusals := map[string]bool{}
	for _, id := range ids {
		switch a := s.answered(id); a.status {
		case "":
			unanswered++
		case "done":
			done++
		default:
			refusals[a.String()] = true
		}
		if unanswered > 0 {
			break // each of the others would be waited for as long
		}
	}
	moves, why := s.moves(o)-before, ""
	switch {
	case unanswered > 0:
		why = "an order was not answered"
	case moves < done, moves > done && !brief(o):
		why = fmt.Sprintf("%d orders were answered done, and the output changed %d times", done, moves)
	case done == 0:
		outcomes = append(outcomes, Outcome{Promise: 2, Verdict: NotTried, Why: fmt.Sprintf("no toggle of %s was carried out: %s", o.Name, list(refusals))})
	}
	if done > 0 || why != "" {
		happened := fmt.Sprintf("%d toggles of %s, each sent twice: %d done, %d refused, %d changes", f.Orders, o.Name, done, f.Orders-done-unanswered, moves)
		outcomes = append(outcomes, judged(2, happened, why))
	}
	if stands := s.goOn(read, 2); stands != "" {
		outcomes = append(outcomes, judged(4, "orders came all the time", stands+" was not read meanwhile"))
	}
	return append(outcomes, s.settle())
}

// list returns the keys in order.
func list(of map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(of)), "; ") }

// smallDisk is the size of the spool's disk in a rehearsal of a full one, in bytes.
const smallDisk = 4 << 20

func diskFull(s *stage, _ Fault) []Outcome {
	if !s.o.OwnMounts {
		return s.alone("disk_full")
	}
	dir := s.sim.Config(s.cfg).Spool.Dir
	unmount, err := mountSmall(dir, smallDisk)
	if err != nil {
		return notTried(fmt.Sprintf("no small file system could be mounted for the spool: %v", err))
	}
	defer unmount()
	defer s.stopDaemon()
	read, outcomes := s.startReading()
	if outcomes != nil {
		return outcomes
	}
	if err := s.stopBroker(); err != nil {
		return broke(1, "the stand-in broker did not stop", err)
	}
	filler := filepath.Join(dir, "filler")
	if err := fill(filler); err != nil {
		return notTried(fmt.Sprintf("its disk could not be filled: %v", err))
	}
	code := s.named("spool")
	stands, why := s.goOn(read, 5), ""
	room, err := roomIn(dir)
	switch {
	case err != nil:
		return notTried(fmt.Sprintf("nobody knows whether its disk was full: %v", err))
	case code == "" && room > 0:
		return notTried(fmt.Sprintf("its disk did not stay full: %d bytes of %d are free", room, smallDisk))
	case code == "":
		why = "no fault of the spool was raised"
	case stands != "":
		why = fmt.Sprintf("%s was not read meanwhile", stands)
	}
	if err := os.Remove(filler); err != nil {
		return append(outcomes, broke(1, "the disk was freed", err)...)
	}
	if why == "" && !s.cleared("spool") {
		why = "the fault was not cleared after there was room again"
	}
	happened := fmt.Sprintf("the spool's disk was full (%d bytes of %d free) while the broker was away: fault %s; %d sensors were read", room, smallDisk, code, len(read))
	outcomes = append(outcomes, judged(4, happened, why))
	delivered := s.settle()
	if _, err := s.stopDaemon(); err != nil {
		return append(outcomes, broke(1, "the daemon was stopped", err)...)
	}
	return append(outcomes, delivered)
}

// fill writes a file until there is no room, down to the last bytes.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return f.Close()
}

func certificateExpired(s *stage, _ Fault) []Outcome {
	files := s.sim.Broker.Files()
	dir := filepath.Join(s.sim.Dir, "device")
	cert, key := filepath.Join(dir, "certificate.pem.crt"), filepath.Join(dir, "private.pem.key")
	if err := errors.Join(os.MkdirAll(dir, 0o700), issue(files.CA, files.CAKey, cert, key, time.Now().Add(-time.Hour))); err != nil {
		return broke(5, "an expired certificate was made", err)
	}
	s.prepared = func(c *config.Config) { c.Broker.Certificate, c.Broker.Key = cert, key }
	if err := s.startDaemon(); err != nil {
		return broke(5, "the daemon was started with an expired certificate", err)
	}
	var said []string
	linked, refused := false, "link "+string(health.CertificateRejected)
	s.await(func() bool {
		linked = linked || s.linked
		read := len(s.rec.taken) > 0 || len(s.sim.Board.Parts()) == 0
		return s.rec.ever[refused] && read
	})
	s.rec.mu.Lock()
	for key := range s.rec.ever {
		if _, code := cutLast(key); strings.Contains(code, "certificate") && !slices.Contains(said, code) {
			said = append(said, code)
		}
	}
	named := s.rec.ever[refused]
	s.rec.mu.Unlock()
	slices.Sort(said)
	why := ""
	switch {
	case linked:
		return notTried("the broker accepts an expired certificate")
	case !named:
		why = "nothing said that the broker refuses the certificate"
	}
	outcomes := []Outcome{judged(5, fmt.Sprintf("the broker refused the certificate; faults: %s", strings.Join(said, ", ")), why)}
	// A restart with valid files stands for the reconnection that follows a replacement, which may
	// take 15 minutes.
	_, err := s.stopDaemon()
	if err := errors.Join(err, issue(files.CA, files.CAKey, cert, key, time.Now().AddDate(1, 0, 0))); err != nil {
		return append(outcomes, broke(1, "the certificate was replaced", err)...)
	}
	return append(outcomes, s.settle())
}

// issue writes a client's certificate, valid until then, and its key.
func issue(ca, caKey, cert, key string, until time.Time) error {
	authority, err := pemIn(ca)
	if err != nil {
		return err
	}
	parent, err := x509.ParseCertificate(authority)
	if err != nil {
		return err
	}
	der, err := pemIn(caKey)
	if err != nil {
		return err
	}
	signer, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "rehearsal"}, NotBefore: until.AddDate(-2, 0, 0), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, &own.PublicKey, signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600),
	)
}

func pemIn(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s has no PEM block", path)
	}
	return block.Bytes, nil
}
