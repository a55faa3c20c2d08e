package rehearse

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// said is one line of what a child says: what its daemon took, what was acknowledged, and
// whether it is connected.
type said struct {
	What   string           `json:"what"` // taken, acked, link
	Kind   message.Kind     `json:"kind,omitempty"`
	Sensor string           `json:"sensor,omitempty"`
	Run    uint64           `json:"run,omitempty"`
	Seq    uint64           `json:"seq,omitempty"`
	Texts  []string         `json:"texts,omitempty"` // names and values of the fields that are texts
	Ints   map[string]int64 `json:"ints,omitempty"`
	Up     bool             `json:"up,omitempty"`
}

// sayRecord makes the line of a record.
func sayRecord(what string, m message.Record) said {
	out := said{What: what, Kind: m.Kind, Sensor: m.Sensor, Run: m.Run, Seq: m.Seq}
	if m.Kind == message.Reading || m.Kind == message.Edge {
		return out
	}
	for _, f := range m.Fields {
		switch v := f.Value.(type) {
		case string:
			out.Texts = append(out.Texts, f.Name, v)
		case int64:
			if out.Ints == nil {
				out.Ints = map[string]int64{}
			}
			out.Ints[f.Name] = v
		}
	}
	return out
}

// record makes a record of a line again.
func (s said) record() message.Record {
	m := message.Record{Kind: s.Kind, Sensor: s.Sensor, Run: s.Run, Seq: s.Seq}
	for i := 0; i+1 < len(s.Texts); i += 2 {
		m.Fields = append(m.Fields, sensors.Field{Name: s.Texts[i], Value: s.Texts[i+1]})
	}
	for name, v := range s.Ints {
		m.Fields = append(m.Fields, sensors.Field{Name: name, Value: v})
	}
	return m
}

// RunChild runs the daemon of a rehearsed power cut until it is killed or ctx ends: on a
// simulated board in dir, with the broker at endpoint, whose certificates are in certificates.
// It says on out what happens, each line in one write, so that a kill loses none.
func RunChild(ctx context.Context, cfg *config.Config, dir, endpoint, certificates string, out io.Writer) error {
	cfg, _ = hasten(cfg)
	s, err := New(Options{Config: cfg, Dir: dir, OwnBroker: true, Log: quiet})
	if err != nil {
		return err
	}
	defer s.Close()
	c := s.Config(standIn(cfg, endpoint, certificates))
	say := func(line said) {
		text, err := json.Marshal(line)
		if err == nil {
			_, err = out.Write(append(text, '\n'))
		}
		if err != nil {
			os.Exit(1) // who listens has ended
		}
	}
	o := s.Daemon(c, nil, "rehearsal", quiet)
	o.Socket = ""
	o.Taken = func(m message.Record) { say(sayRecord("taken", m)) }
	o.Acked = func(m message.Record) { say(sayRecord("acked", m)) }
	up := false
	o.Linked = func(st uplink.Status) {
		if st.Connected != up {
			up = st.Connected
			say(said{What: "link", Up: up})
		}
	}
	failed := make(chan error, 2)
	board := task.Start("simulated board", failed, s.Board.Run)
	d, err := daemon.New(o)
	if err != nil {
		return errors.Join(err, board.Stop(5*time.Second))
	}
	running := task.Start("daemon", failed, d.Run)
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-failed:
		errs = append(errs, err)
	}
	return errors.Join(append(errs, running.Stop(time.Minute), board.Stop(5*time.Second))...)
}

// follow starts a child and feeds what it says into the recorder. kill kills it without warning,
// and waits until all that it said was read. The error of kill says that it had ended before.
func (s *stage) follow(dir string) (kill func() error, err error) {
	cmd := s.o.Child(dir, s.sim.Broker.Addr(), certificatesOf(s.sim))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var reason bytes.Buffer
	cmd.Stderr = &reason
	apart(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.rec.began()
	reading := task.Start("child", make(chan error, 1), func(context.Context) error {
		defer func() { s.rec.end(errors.New("the process ended")) }()
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.hear(lines.Bytes())
		}
		return lines.Err()
	})
	return func() error {
		s.rec.mu.Lock()
		alone := s.rec.ended != nil
		s.rec.mu.Unlock()
		_ = cmd.Process.Kill() // it may have ended
		err := reading.Stop(patience)
		_ = cmd.Wait() // killed
		if alone && s.ctx.Err() == nil {
			err = errors.Join(err, fmt.Errorf("it had ended by itself: %s: %s", cmd.ProcessState, strings.TrimSpace(reason.String())))
		}
		return err
	}, nil
}

// hear takes one line of a child.
func (s *stage) hear(line []byte) {
	var x said
	if json.Unmarshal(line, &x) != nil {
		return // the last line of a killed process
	}
	switch x.What {
	case "taken":
		s.rec.take(x.record())
	case "acked":
		s.rec.ack(x.record())
	case "link":
		s.rec.mu.Lock()
		s.linked = x.Up
		s.rec.changedLocked()
		s.rec.mu.Unlock()
	}
}

// waitingAtCut is how many readings wait when the power is cut, besides those in hand.
const waitingAtCut = 8

func powerCut(s *stage, _ Fault) []Outcome {
	if s.o.Child == nil {
		return notTried("no other process can be started here")
	}
	if len(s.sim.Board.Parts()) == 0 {
		return notTried("the configuration has no sensor that can be simulated")
	}
	dir := s.sim.Dir + "-child"
	kill, err := s.follow(dir)
	if err != nil {
		return notTried(fmt.Sprintf("no other process could be started: %v", err))
	}
	s.await(func() bool { return s.linked && len(s.rec.acked) > 0 })
	s.rec.mu.Lock()
	linked, delivered, began := s.linked, len(s.rec.acked) > 0, len(s.rec.taken) > 0
	s.rec.mu.Unlock()
	switch {
	case linked && !began:
		return append(notTried("no sensor gave a reading in time"), errOutcome(kill())...)
	case !linked || !delivered:
		return append(broke(1, "the process was started", errors.New("it did not deliver a reading")), errOutcome(kill())...)
	}
	if err := s.stopBroker(); err != nil {
		return append(broke(1, "the stand-in broker did not stop", err), errOutcome(kill())...)
	}
	s.await(func() bool { return len(s.rec.waiting) >= waitingAtCut+len(s.rec.last) })
	if err := kill(); err != nil {
		return broke(1, "the process was killed", err)
	}
	run := s.lastRun()
	inHand := s.rec.inHand()
	s.rec.mu.Lock()
	waiting := len(s.rec.waiting)
	s.linked = false
	s.rec.mu.Unlock()
	s.startBroker()
	if kill, err = s.follow(dir); err != nil {
		return broke(1, "the process was started again", err)
	}
	s.awaitDelivery(run, inHand...)
	if err := kill(); err != nil {
		return broke(1, "the process was killed again", err)
	}
	lost := s.rec.forgive(inHand)
	o := s.rec.delivered(run)
	o.Happened = fmt.Sprintf("the process was killed while %d readings waited, and started again: %s", waiting, o.Happened)
	if lost > 0 {
		o.Happened += fmt.Sprintf("; %d more were being recorded at that moment and do not count", lost)
	}
	return []Outcome{o}
}

func errOutcome(err error) []Outcome {
	if err == nil {
		return nil
	}
	return broke(4, "the process was ended", err)
}

// alone rehearses a fault in a process that has mounts of its own. So nobody else sees its file
// systems, and none stays mounted, however the process or this one ends.
func (s *stage) alone(fault string) []Outcome {
	if s.o.Alone == nil {
		return notTried("no other process can be started here")
	}
	scenario := filepath.Join(s.sim.Dir, "scenario.yaml")
	if err := os.WriteFile(scenario, []byte("faults: [{fault: "+fault+"}]\n"), 0o600); err != nil {
		return notTried(err.Error())
	}
	cmd := s.o.Alone(s.ctx, scenario)
	cmd.Env = append(cmd.Environ(), "TMPDIR="+s.sim.Dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var out, reason bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &reason
	if err := ownMounts(cmd); err != nil {
		return notTried(fmt.Sprintf("no small file system can be mounted here: %v", err))
	}
	apart(cmd)
	runtime.LockOSThread() // the process ends with the thread that starts it
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return notTried(fmt.Sprintf("no process with mounts of its own could be started: %v", err))
	}
	err := cmd.Wait() // status 1 says that a promise was broken, as the report does
	var r Report
	if json.Unmarshal(out.Bytes(), &r) != nil || len(r.Outcomes) == 0 && !r.Interrupted {
		return broke(4, "the process that rehearses it ended", fmt.Errorf("%w: %s", cmp.Or(err, errors.New("without a report")), strings.TrimSpace(reason.String())))
	}
	return r.Outcomes
}
