package health

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fieldpost/daemon/goldentest"
)

// catalog is deploy/fieldpost.catalog: an entry for each fault, and for what else the
// journal has a MESSAGE_ID for.
func catalog() string {
	var b strings.Builder
	b.WriteString("# Made of daemon/health/registry.go by `make docs`.\n")
	entry := func(id, subject string, paragraphs ...string) {
		fmt.Fprintf(&b, "\n-- %s\nSubject: %s\nDefined-By: fieldpost\n", id, subject)
		for _, p := range paragraphs {
			b.WriteString("\n" + wrap(p, 78) + "\n")
		}
	}
	for _, f := range Faults {
		about := []string{f.Meaning, "What was seen: @FIELDPOST_DETAIL@", "What to do: @FIELDPOST_HINT@"}
		if f.Severity == Warning {
			about = append(about, "fieldpost keeps trying. The fault may clear by itself.")
		} else {
			about = append(about, "A person must act. Everything that does not depend on it keeps working.")
		}
		entry(f.Code.MessageID(), "fieldpost: "+f.Title, append(about, "`fieldpost status` shows what is wrong now. The code of this fault is "+string(f.Code)+".")...)
	}
	entry(ClearedID, "fieldpost: a fault is over", "The fault @FIELDPOST_CODE@ no longer holds. Nothing needs to be done.")
	entry(StartedID, "fieldpost has started", "Version @FIELDPOST_VERSION@ runs on @FIELDPOST_BOARD@ as @FIELDPOST_THING@. Its messages carry run @FIELDPOST_RUN@ of spool @FIELDPOST_SPOOL@.")
	entry(StoppedID, "fieldpost has stopped", "All outputs were driven to their safe levels. @FIELDPOST_LEFT_IN_SPOOL@ messages wait on the disk for the next start.")
	return b.String()
}

// wrap breaks a paragraph into lines of at most width bytes where words allow it.
func wrap(text string, width int) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}

// deploy/fieldpost.catalog is of this registry; journalctl itself takes it.
func TestDocsCatalog(t *testing.T) {
	goldentest.File(t, filepath.Join("..", "..", "deploy", "fieldpost.catalog"), []byte(catalog()))
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^-- (.*)$`).FindAllStringSubmatch(catalog(), -1) {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(m[1]) || seen[m[1]] {
			t.Errorf("message id %s is not one, or is there twice", m[1])
		}
		seen[m[1]] = true
	}
	if len(seen) != len(Faults)+3 {
		t.Errorf("%d entries for %d faults and 3 changes", len(seen), len(Faults))
	}
	if BusStuck.MessageID() != "0bf7f70dc5c089299f6d284d8bc53dae" {
		t.Errorf("the message id of bus_stuck is %s: people have it in their searches, so it must not change", BusStuck.MessageID())
	}

	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Log("no journalctl here: the catalog was not given to it")
		return
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/fieldpost.catalog"), []byte(catalog()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--update-catalog"}, {"--dump-catalog", PublishDenied.MessageID()}} {
		out, err := exec.Command("journalctl", append([]string{"--root", root}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("journalctl %s: %v\n%s", args, err, out)
		}
		if args[0] == "--dump-catalog" && !strings.Contains(string(out), Lookup(PublishDenied).Title) {
			t.Errorf("journalctl explains publish_denied as\n%s", out)
		}
	}
}
