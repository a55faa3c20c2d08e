package rehearse

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
)

// Variables of the environment that make the test binary one of the processes that a rehearsal
// starts.
const (
	roleVar   = "FIELDPOST_REHEARSE_ROLE" // child, alone, or alone-broken
	configVar = "FIELDPOST_REHEARSE_CONFIG"
	argsVar   = "FIELDPOST_REHEARSE_ARGS" // separated by spaces
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := playRole(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func playRole(role string) error {
	cfg, err := config.LoadWithoutFiles(os.Getenv(configVar))
	if err != nil {
		return err
	}
	if role == "child" {
		args := strings.Fields(os.Getenv(argsVar))
		return RunChild(context.Background(), cfg, args[0], args[1], args[2], os.Stdout)
	}
	dir, err := os.MkdirTemp("", "alone-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, _ := hasten(cfg)
	s, err := openStage(context.Background(), RunOptions{Config: cfg, OwnMounts: true}, "disk_full", dir, c)
	if err != nil {
		return err
	}
	s.gaveUp = make(chan struct{})
	if role == "alone-broken" {
		upon(s, raised("spool_unavailable"), "door", func() { s.part("air").Cut(true) })
	}
	r := Report{Outcomes: diskFull(s, usual("disk_full"))}
	_ = s.close() // what is sabotaged may not end in order
	return r.PrintJSON(os.Stdout)
}

// processes returns options whose processes are this test binary in a role.
func processes(t *testing.T, text, role string) RunOptions {
	path := filepath.Join(t.TempDir(), "fieldpost.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(cmd *exec.Cmd, role string, args ...string) *exec.Cmd {
		cmd.Env = append(os.Environ(), roleVar+"="+role, configVar+"="+path, argsVar+"="+strings.Join(args, " "))
		return cmd
	}
	return RunOptions{
		Config: configOf(t, text), Version: "test",
		Child: func(dir, endpoint, certificates string) *exec.Cmd {
			return in(exec.Command(os.Args[0]), "child", dir, endpoint, certificates)
		},
		Alone: func(ctx context.Context, _ string) *exec.Cmd { return in(exec.CommandContext(ctx, os.Args[0]), role) },
	}
}

// A power cut loses nothing silently, and the report says what was killed.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	o := processes(t, wide, "")
	o.Scenario = Scenario{usual("power_cut")}
	r, err := Run(t.Context(), o)
	if got := outcomeOf(r, "power_cut", 1); err != nil || got.Verdict != Held || !strings.HasPrefix(got.Happened, "the process was killed while ") {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
}

// A power cut that takes the spool with it is found, although the numbers begin anew.
func TestPowerCutThatLosesTheSpool(t *testing.T) {
	t.Parallel()
	o := processes(t, wide, "")
	o.Scenario = Scenario{usual("power_cut")}
	starts, child := 0, o.Child
	o.Child = func(dir, endpoint, certificates string) *exec.Cmd {
		if starts++; starts == 2 {
			if err := os.RemoveAll(filepath.Join(dir, "spool")); err != nil {
				t.Error(err)
			}
		}
		return child(dir, endpoint, certificates)
	}
	r, err := Run(t.Context(), o)
	if got := outcomeOf(r, "power_cut", 1); err != nil || got.Verdict != Broken || r.Err() == nil || !strings.Contains(got.Why, "numbers were given to two readings") {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
}

// noMounts skips a test where nobody may mount a file system for a process of his own. Where
// unshare(1) can, so must a rehearsal.
func noMounts(t *testing.T, r Report) {
	t.Helper()
	if o := outcomeOf(r, "disk_full", 0); o.Verdict == NotTried {
		mount := strings.Contains(o.Why, "mount")
		if mount && exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "small", t.TempDir()).Run() == nil {
			t.Fatal("a file system can be mounted here, and was not:", o.Why)
		}
		t.Skip("here:", o.Why)
	}
}

// A full disk is full, the daemon says so, reads on, and takes the disk again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	o := processes(t, wide, "alone")
	o.Scenario = Scenario{usual("disk_full")}
	r, err := Run(t.Context(), o)
	noMounts(t, r)
	if got := outcomeOf(r, "disk_full", 4); err != nil || got.Verdict != Held || !strings.Contains(got.Happened, " of 4194304 free) while the broker was away: fault spool_unavailable; 4 sensors were read") {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
	if got := outcomeOf(r, "disk_full", 1); got.Verdict != Held {
		t.Errorf("delivery: %+v", got)
	}
}

// A full disk that stops a sensor is found.
func TestDiskFullThatStopsASensor(t *testing.T) {
	t.Parallel()
	o := processes(t, wide, "alone-broken")
	o.Scenario = Scenario{usual("disk_full")}
	r, err := Run(t.Context(), o)
	noMounts(t, r)
	if got := outcomeOf(r, "disk_full", 4); err != nil || got.Verdict != Broken || !strings.Contains(got.Why, "was not read meanwhile") || r.Err() == nil {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
}

// A process that cannot report is told of, with what it said.
func TestProcessWithoutReport(t *testing.T) {
	t.Parallel()
	o := processes(t, wide, "alone")
	o.Scenario = Scenario{usual("disk_full")}
	o.Alone = func(ctx context.Context, _ string) *exec.Cmd {
		return exec.CommandContext(ctx, os.Args[0], "-no-such-flag")
	}
	r, err := Run(t.Context(), o)
	noMounts(t, r)
	if err != nil || r.Err() == nil || !strings.Contains(fmt.Sprint(r.Outcomes), "flag provided but not defined") {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
}

// Nothing that a child says is taken for true if it is half a line.
func TestHalfALine(t *testing.T) {
	s := &stage{rec: newRecorder()}
	line, err := json.Marshal(sayRecord("taken", message.Record{Kind: message.Reading, Sensor: "air", Run: 1, Seq: 1}))
	if err != nil {
		t.Fatal(err)
	}
	s.hear(line[:len(line)-3])
	if len(s.rec.taken) != 0 {
		t.Errorf("taken: %v", s.rec.taken)
	}
	if s.hear(line); len(s.rec.taken) != 1 {
		t.Errorf("taken: %v", s.rec.taken)
	}
}
