package footprint

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"fieldpost/sensors"
)

// What the program allocates before main runs, whichever command it is for: the daemon keeps
// the pages for good. Each regular expression that a package compiles there takes 3 to 90 KB;
// compile it when it is first used, with sync.OnceValue. GODEBUG=inittrace=1 lists all packages.
func TestStartAllocatesLittle(t *testing.T) {
	const (
		mostOfOurs  = 192 << 10 // of all packages of fieldpost
		mostOfOne   = 96 << 10  // of one of them, but for the catalog
		mostOfChip  = 2 << 10   // of the catalog for each chip: its rules and quantities
		mostOfAll   = 800 << 10 // with libraries; the embedded broker's takes 0.4 MB and is freed
		description = `(?m)^init (\S+) @.* (\d+) bytes, \d+ allocs$`
	)
	c := exec.Command(buildProgram(t), "version")
	c.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	packages := regexp.MustCompile(description).FindAllStringSubmatch(string(out), -1)
	if len(packages) < 10 {
		t.Fatalf("%d packages in %s", len(packages), out)
	}
	ours, all := 0, 0
	for _, p := range packages {
		n, err := strconv.Atoi(p[2])
		if err != nil {
			t.Fatal(err)
		}
		all += n
		if !strings.HasPrefix(p[1], "fieldpost/") {
			continue
		}
		most := mostOfOne
		if p[1] == "fieldpost/sensors" {
			most = mostOfChip * len(sensors.Catalog())
		}
		if ours += n; n > most {
			t.Errorf("%s allocates %d bytes at the start, want at most %d", p[1], n, most)
		}
	}
	t.Logf("%d bytes at the start, %d of them fieldpost's", all, ours)
	if ours > mostOfOurs {
		t.Errorf("fieldpost's packages allocate %d bytes at the start, want at most %d", ours, mostOfOurs)
	}
	if all > mostOfAll {
		t.Errorf("all packages allocate %d bytes at the start, want at most %d", all, mostOfAll)
	}
}
