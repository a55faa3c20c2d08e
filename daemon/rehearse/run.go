package rehearse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"fieldpost/daemon/config"
)

// RunOptions say what is rehearsed.
type RunOptions struct {
	Config   *config.Config
	Scenario Scenario
	Version  string
	// Child returns a command that calls [RunChild] with the configuration and these arguments;
	// nil: a power cut is not tried.
	Child func(dir, endpoint, certificates string) *exec.Cmd
	// Alone returns a command that rehearses a scenario's file with OwnMounts, and prints the
	// report as JSON; nil: a full disk is not tried.
	Alone func(ctx context.Context, scenario string) *exec.Cmd
	// OwnMounts says that this process has mounts of its own, as a command of Alone has.
	OwnMounts bool
	// Progress is told each fault when it begins, and again with its outcomes; nil is nobody.
	Progress func(name string, n, of int, outcomes []Outcome)
}

// Run rehearses a scenario, each fault with a board, a broker and a daemon of its own, in a
// temporary directory that is removed. When ctx ends, it returns what there is, with
// [Report].Interrupted.
func Run(ctx context.Context, o RunOptions) (r Report, err error) {
	cfg, said := hasten(o.Config)
	r = Report{Thing: cfg.Thing, SpedUp: said, NotSimulated: []string{}, NotRead: []string{}, Outcomes: []Outcome{}}
	dir, err := os.MkdirTemp("", "fieldpost-rehearsal-")
	if err != nil {
		return r, fmt.Errorf("rehearse: %w", err)
	}
	defer os.RemoveAll(dir)
	unread := map[string]string{}
	defer func() { r.NotRead = notRead(cfg, unread) }()
	for n, f := range o.Scenario {
		if ctx.Err() != nil {
			break
		}
		if o.Progress != nil {
			o.Progress(f.Name, n+1, len(o.Scenario), nil)
		}
		outcomes, missing, err := one(ctx, o, f, fmt.Sprintf("%s/%d", dir, n+1), cfg, unread)
		if err != nil {
			return r, fmt.Errorf("rehearse %s: %w", f.Name, err)
		}
		if ctx.Err() != nil {
			break // what it has found is of the interruption
		}
		r.NotSimulated = missing
		for i := range outcomes {
			outcomes[i].Fault = f.Name
		}
		r.Outcomes = append(r.Outcomes, outcomes...)
		if o.Progress != nil {
			o.Progress(f.Name, n+1, len(o.Scenario), outcomes)
		}
	}
	r.Interrupted = ctx.Err() != nil
	return r, nil
}

func one(ctx context.Context, o RunOptions, f Fault, dir string, cfg *config.Config, unread map[string]string) (outcomes []Outcome, missing []string, err error) {
	s, err := openStage(ctx, o, f.Name, dir, cfg)
	if err != nil {
		return nil, nil, err
	}
	s.unread = unread
	missing = []string{}
	for _, m := range s.sim.Missing {
		missing = append(missing, m.String())
	}
	for _, k := range Faults() {
		if k.Name == f.Name {
			outcomes = k.run(s, f)
		}
	}
	if err := s.close(); err != nil {
		if errors.Is(err, context.Canceled) {
			return outcomes, missing, nil
		}
		outcomes = append(outcomes, Outcome{Promise: 4, Verdict: Broken, Happened: "everything was stopped afterwards", Why: err.Error()})
	}
	return outcomes, missing, nil
}

// notRead tells of the sensors that were not waited for.
func notRead(cfg *config.Config, unread map[string]string) []string {
	all := []string{}
	for _, c := range cfg.Sensors {
		switch why := unread[c.Name]; {
		case why != "":
			all = append(all, fmt.Sprintf("%s (%s): it gave no value on the simulated board: %s", c.Name, c.Chip, why))
		case slow(c.Chip):
			all = append(all, fmt.Sprintf("%s (%s): it warms up for longer than %v", c.Name, c.Chip, slowest))
		}
	}
	return all
}
