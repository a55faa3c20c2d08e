//go:build steps

package daemon_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// steppedNow takes the place of the beginning of [time.Now], so that an instant
// has its monotonic reading in a bubble of synctest too, and the bubble's wall
// clock jumps: it is wrong by up to ten years, by another time every 300 ms or,
// for a third of the time, every 13 s. Who compares by the wall clock, or drops
// the monotonic reading on the way, is early, late or never there.
const (
	plainNow = `
	sec, nsec, mono := runtimeNow()
	if mono == 0 {
		return Time{uint64(nsec), sec + unixToInternal, Local}
	}
`
	steppedNow = `
	sec, nsec, mono := runtimeNow()
	if mono == 0 {
		mono = runtimeNano()
		steps := [...]int64{0, 1, -1, 90, -90, 3600, -3600, 400 * 86400, -400 * 86400, 3650 * 86400, -3650 * 86400}
		turn := uint64(mono) / 13_000_000_000
		if turn%3 > 0 {
			turn = uint64(mono) / 300_000_000
		}
		sec += steps[turn*0x9E3779B97F4A7C15>>40%uint64(len(steps))]
	}
`
)

// overlay gives the file that has the go command build package time so.
func overlay(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), plainNow) != 1 {
		t.Fatal("time.Now is not what it was: see to it that it still steps, by steppedNow")
	}
	changed, list := filepath.Join(t.TempDir(), "time.go"), filepath.Join(t.TempDir(), "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{changed: strings.Replace(string(source), plainNow, steppedNow, 1), list: string(replace)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// A step of the clock moves no schedule: the tests of all that waits or repeats
// hold while the wall clock of their whole process jumps. Left out is what goes
// by the wall clock on purpose: certificates, what a message says of its time,
// the age of an earlier boot's mail, and when orders with an expiry lapse.
func TestClockStepMovesNoSchedule(t *testing.T) {
	list := overlay(t)
	run := func(args ...string) (string, error) {
		out, err := exec.Command("go", append([]string{"test", "-count=1", "-overlay", list}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("-run=^TestLateClock$", "fieldpost/daemon/outbox"); err == nil || !strings.Contains(out, "--- FAIL: TestLateClock") {
		t.Fatalf("a test of what the wall clock says does not see it step: %v\n%s", err, out)
	}
	for room, tests := range map[string]string{
		"sampler": "-skip=^TestEdges$",
		"output":  "-skip=^$",
		"uplink":  "-skip=^TestBrokerIsNotTrusted$",
		"spool":   "-skip=^TestBacklogOfAnEarlierRun$",
		"health":  "-skip=^$",
		"local":   "-skip=^$",
		"systemd": "-skip=^$",
		"command": "-skip=^Test(OrdersMovePins|Contract|TimeOfOrders|IDIsKnown.*|FullMemory|HungJournal|QueueOverflows|HungDiskIsNamed|Burst|ExpiredOnItsWayToTheDisk|ReconfigureKeepsTheLedger|UnreadableLedgerIsBegunAnew|LedgerOfADiskThatComesBack)$",
		"outbox":  "-run=Batch(WaitsForMore|esAreBounded)|OpenBatches|InFullBatches|AnswersAre",
		".":       "-run=Watchdog|Hang(Is|Of)|LateLoop",
	} {
		t.Run(room, func(t *testing.T) {
			if out, err := run(tests, "fieldpost/daemon/"+room); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
