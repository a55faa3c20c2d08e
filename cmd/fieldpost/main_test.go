package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/goldentest"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fieldpost": main})
}

// TestCommandLine runs the scripts testdata/*.txtar with the real main.
func TestCommandLine(t *testing.T) {
	silentDaemon, asked := silentDaemons()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			policies, err := filepath.Abs(filepath.Join(root, "configs/policies"))
			e.Setenv("POLICIES", policies)
			e.Setenv("CONFIGS", filepath.Dir(policies))
			return err
		},
		UpdateScripts: *goldentest.Update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"asked":           asked,
			"aws-like-broker": awsLikeBroker,
			"certificates":    makeCertificates,
			"silent-daemon":   silentDaemon,
			"simulated-board": simulatedBoard,
			"status":          status,
		},
	})
}

// status runs a command and checks its exit status: status N COMMAND ARG... The commands
// stdout and stderr then check its output, as after exec.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	switch {
	case err == nil:
		ts.Fatalf("exit status 0, want %s", args[0])
	case !errors.As(err, &ended):
		ts.Fatalf("run: %v", err)
	case strconv.Itoa(ended.ExitCode()) != args[0]:
		ts.Fatalf("exit status %d, want %s", ended.ExitCode(), args[0])
	}
}

// awsLikeBroker starts an embedded broker with the tutorial's policy, or "open" without one, and
// its certificates in certs; its endpoint is in $ENDPOINT.
func awsLikeBroker(ts *testscript.TestScript, _ bool, args []string) {
	policy := awsiot.Tutorial()
	if len(args) == 1 && args[0] == "open" {
		policy = nil
	}
	b, err := broker.New(broker.Options{Dir: ts.MkAbs("certs"), Policy: policy})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			panic("broker did not end")
		}
	})
	ts.Setenv("ENDPOINT", b.Addr())
}

// makeCertificates makes the three files in each directory named.
func makeCertificates(ts *testscript.TestScript, _ bool, dirs []string) {
	for _, d := range dirs {
		dir := ts.MkAbs(d)
		ts.Check(os.MkdirAll(filepath.Dir(dir), 0o755))
		_, err := broker.Certificates(dir)
		ts.Check(err)
	}
}
