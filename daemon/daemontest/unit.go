package daemontest

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// UnitEnvironment is what deploy/fieldpost.service puts into the environment of
// the daemon, as NAME=value.
func UnitEnvironment(t testing.TB) (env []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^Environment=(\S+)$`).FindAllSubmatch(unit(t), -1) {
		env = append(env, string(m[1]))
	}
	if len(env) < 2 {
		t.Fatalf("the unit has %d lines that begin with Environment=", len(env))
	}
	return env
}

// UnitTimerSlack is by how much deploy/fieldpost.service lets timers be late.
func UnitTimerSlack(t testing.TB) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`(?m)^TimerSlackNSec=(\S+)$`).FindSubmatch(unit(t))
	if m == nil {
		t.Fatal("the unit has no TimerSlackNSec")
	}
	d, err := time.ParseDuration(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// UnitMemoryMax is the limit of memory in deploy/fieldpost.service, in bytes.
func UnitMemoryMax(t testing.TB) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^MemoryMax=(\d+)M$`).FindSubmatch(unit(t))
	if m == nil {
		t.Fatal("the unit has no MemoryMax in M")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n << 20
}

// unit reads the unit. Tests run in the folder of their package, somewhere below
// the repository's.
func unit(t testing.TB) []byte {
	t.Helper()
	for dir := ".."; ; dir = filepath.Join(dir, "..") {
		text, err := os.ReadFile(filepath.Join(dir, "deploy", "fieldpost.service"))
		if err == nil {
			return text
		}
		if _, here := os.Stat(filepath.Join(dir, "go.mod")); here == nil || len(dir) > 30 {
			t.Fatal(err)
		}
	}
}
