package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/sensors/board"
)

// `fieldpost safe` drives what has a safe level and holds what is to stay as it
// is, and says which; without systemd it says that it cannot keep them.
func TestMakeSafeSaysWhatItDid(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	path := filepath.Join(t.TempDir(), "outputs")
	record := `{"output":"pump","label":"l","offset":27,"active_low":true,"safe":"off"}
{"output":"lamp","label":"l","offset":6,"safe":"keep"}
`
	if err := os.WriteFile(path, []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []board.OutputConfig
	var out strings.Builder
	err := MakeSafe(path, func(c board.OutputConfig) (*os.File, error) {
		asked = append(asked, c)
		return os.Open(path)
	}, nil, &out)
	if err != nil || len(asked) != 2 || asked[0].Keep || asked[0].Active || !asked[1].Keep {
		t.Errorf("asked for %+v, %v", asked, err)
	}
	for _, want := range []string{`output "pump" on line l:27 is off`, `output "lamp" on line l:6 stays as it is`, "only systemd can keep"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("printed\n%s\nwithout %q", out.String(), want)
		}
	}
}

// Lines are given to systemd to keep only where it runs us and the record can
// say so.
func TestStoreNeedsSystemdAndARecord(t *testing.T) {
	for _, c := range []struct {
		socket, runtime string
		want            bool
	}{{"", "/run/fieldpost", false}, {"/run/systemd/notify", "", false}, {"/run/systemd/notify", "/run/fieldpost", true}} {
		t.Setenv("NOTIFY_SOCKET", c.socket)
		d := &process{o: Options{Runtime: c.runtime}}
		if got := d.store() != nil; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A second daemon is refused; a directory that is not there is not.
func TestOwnOfTheRecord(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "outputs")
	free, err := Own(path, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Own(path, log); err == nil || !strings.Contains(err.Error(), "another fieldpost") {
		t.Errorf("the second: %v", err)
	}
	free()
	free, err = Own(path, log)
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	free()
	free, err = Own(filepath.Join(t.TempDir(), "none", "outputs"), log)
	if err != nil {
		t.Fatalf("no directory: %v", err)
	}
	free()
}
