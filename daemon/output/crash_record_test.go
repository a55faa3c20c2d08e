package output

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"fieldpost/sensors/board"
)

const (
	pumpLine  = `{"output":"pump","label":"pinctrl-bcm2711","chip":"gpiochip0","offset":27,"line":"GPIO27","active_low":false,"drive":"push-pull","safe":"off","held":false}`
	valveLine = `{"output":"valve","label":"pinctrl-bcm2711","offset":22,"active_low":true,"drive":"open-drain","safe":"on","held":true}`
)

func recordOf(t *testing.T, text ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outputs")
	if err := os.WriteFile(path, []byte(strings.Join(text, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRecordComesBack(t *testing.T) {
	want := []Line{
		{Output: "pump", Label: "pinctrl-bcm2711", Chip: "gpiochip0", Offset: 27, Name: "GPIO27", Drive: board.PushPull},
		{Output: "valve", Label: "pinctrl-bcm2711", Offset: 22, ActiveLow: true, Drive: board.OpenDrain, Safe: SafeOn, Held: true},
	}
	path := filepath.Join(t.TempDir(), "outputs")
	for range 2 { // without a record, and over itself
		if err := writeRecord(path, want); err != nil {
			t.Fatal(err)
		}
		if got, err := Recorded(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if got, err := Recorded(recordOf(t, pumpLine, valveLine)); err != nil || !slices.Equal(got, want) {
		t.Errorf("as written by hand: %+v, %v; want %+v", got, err, want)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("beside the record there is %v, %v", names, err)
	}
}

// If a record cannot be written, the old one remains complete.
func TestRecordIsOldOrNew(t *testing.T) {
	path := recordOf(t, pumpLine)
	if err := os.Mkdir(path+".new", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path+".new", "in the way"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeRecord(path, nil); err == nil {
		t.Error("no error")
	}
	if got, err := Recorded(path); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v; want the pump", got, err)
	}
}

// A killed writer left its unfinished file.
func TestRecordOverUnfinishedOne(t *testing.T) {
	path := recordOf(t, pumpLine)
	if err := os.WriteFile(path+".new", []byte(pumpLine[:40]+strings.Repeat("x", 9000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeRecord(path, []Line{{Output: "fan", Label: "l", Drive: board.PushPull}}); err != nil {
		t.Fatal(err)
	}
	if got, err := Recorded(path); err != nil || len(got) != 1 || got[0].Output != "fan" {
		t.Errorf("%+v, %v; want the fan", got, err)
	}
}

func TestDamagedRecord(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"output":"pump","label":"l","off`, "unexpected end"},
		{`{"output":"pump","label":"l","offset":27}`, "no safe level"},
		{`{"output":"pump","label":"l","offset":27,"safe":null}`, "no safe level"},
		{`{"output":"pump","label":"l","offset":27,"safe":"perhaps"}`, "want off, on or keep"},
		{`{"output":"pump","label":"l","offset":27,"safe":0}`, "cannot unmarshal"},
		{`{"output":"pump","label":"l","safe":"off"}`, "no offset"},
		{`{"output":"pump","label":"l","offset":-1,"safe":"off"}`, "no offset"},
		{`{"output":"pump","label":"","offset":1,"safe":"off"}`, "no chip label"},
		{`{"output":"pump","label":"l","offset":1,"safe":"off","drive":"hard"}`, "want push-pull"},
		{`[]`, "cannot unmarshal"},
		{"\x00\x00\x00", "invalid character"},
	} {
		lines, err := Recorded(recordOf(t, valveLine, c.text, "", pumpLine))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "outputs:2: ") {
			t.Errorf("%s: error %v, want %q in line 2", c.text, err, c.want)
		}
		if len(lines) != 2 || lines[0].Output != "valve" || lines[1].Output != "pump" {
			t.Errorf("%s: the good lines are %v", c.text, lines)
		}
	}
	if lines, err := Recorded(recordOf(t)); len(lines) != 0 || err != nil {
		t.Errorf("empty record: %v, %v", lines, err)
	}
	if _, err := Recorded(recordOf(t, strings.Repeat(pumpLine+"\n", 10000))); err == nil {
		t.Error("a record without end was read")
	}
	if _, err := Recorded(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	newer := strings.Replace(pumpLine, "{", `{"colour":"red",`, 1)
	if lines, err := Recorded(recordOf(t, newer)); len(lines) != 1 || err != nil {
		t.Errorf("record of a newer fieldpost: %v, %v", lines, err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(pumpLine))
	f.Add([]byte(valveLine))
	f.Add([]byte(`{"safe":"on","safe":null,"label":"a","offset":0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLine(text)
		if err != nil {
			return
		}
		if l.Label == "" || l.Offset < 0 {
			t.Errorf("%q gave %+v", text, l)
		}
		if c := l.Config(); c.Active != (l.Safe == SafeOn) || c.Keep != (l.Safe == SafeKeep) || c.ActiveLow != l.ActiveLow {
			t.Errorf("%q gave the request %+v", text, c)
		}
	})
}

// heldLines simulates the kernel: which lines are held.
type heldLines struct {
	t     *testing.T
	busy  map[string]error
	asked []board.OutputConfig
}

func (h *heldLines) hold(c board.OutputConfig) (*os.File, error) {
	h.asked = append(h.asked, c)
	if err := h.busy[c.Line]; err != nil {
		return nil, err
	}
	return openFile(h.t, c.Line), nil
}

// openFile returns an open file in place of a line handle.
func openFile(t *testing.T, content string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "handle")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func isOpen(f *os.File) bool {
	_, err := f.Stat()
	return err == nil
}

func TestMakeSafe(t *testing.T) {
	k := &heldLines{t: t}
	handles, err := MakeSafe(recordOf(t, pumpLine, valveLine), k.hold, nil)
	if err != nil || len(handles) != 2 {
		t.Fatalf("%v, %v", handles, err)
	}
	want := []board.OutputConfig{
		{Line: "pinctrl-bcm2711:27", Drive: board.PushPull},
		{Line: "pinctrl-bcm2711:22", ActiveLow: true, Drive: board.OpenDrain, Active: true},
	}
	if !slices.Equal(k.asked, want) {
		t.Errorf("asked for %+v, want %+v", k.asked, want)
	}
	for i, name := range []string{"safe-pump@pinctrl-bcm2711.27", "safe-valve@pinctrl-bcm2711.22"} {
		if got := handles[i].Name(); got != name || !isOpen(handles[i].File) {
			t.Errorf("handle %q, want %q and open", got, name)
		}
	}
}

func TestMakeSafeGoesOn(t *testing.T) {
	k := &heldLines{t: t, busy: map[string]error{
		"pinctrl-bcm2711:27": &board.BusyError{Line: board.LineID{Label: "pinctrl-bcm2711", Offset: 27}, Holder: "fieldpost"},
		"pinctrl-bcm2711:22": &board.BusyError{Line: board.LineID{Label: "pinctrl-bcm2711", Offset: 22}},
		"gone:1":             board.ErrAbsent,
	}}
	path := recordOf(t, pumpLine, `{"output":"lamp","label":"gone","offset":1,"safe":"off"}`, "garbage", valveLine,
		`{"output":"fan","label":"x","offset":5,"safe":"off"}`)
	handles, err := MakeSafe(path, k.hold, nil)
	if len(handles) != 1 || handles[0].Line.Output != "fan" {
		t.Errorf("handles %v, want the fan's", handles)
	}
	for _, want := range []string{
		`make output "pump" on line pinctrl-bcm2711:27 (GPIO27) safe: line pinctrl-bcm2711:27 is held by fieldpost`,
		"if that is the daemon, stop it", `make output "lamp" on line gone:1 safe: not there`, "outputs:3: ",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "valve") {
		t.Errorf("the valve is held safe by systemd and is no error:\n%v", err)
	}
}

func TestMakeSafeWithoutRecord(t *testing.T) {
	handles, err := MakeSafe(filepath.Join(t.TempDir(), "none"), func(board.OutputConfig) (*os.File, error) {
		t.Error("a line was asked for")
		return nil, nil
	}, nil)
	if len(handles) != 0 || err != nil {
		t.Errorf("%v, %v; want nothing", handles, err)
	}
}

func TestMarkHeld(t *testing.T) {
	path := recordOf(t, pumpLine, strings.Replace(valveLine, `"held":true`, `"held":false`, 1))
	lines, err := Recorded(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := MarkHeld(path, []Handle{{Line: lines[1]}}); err != nil {
		t.Fatal(err)
	}
	got, err := Recorded(path)
	if err != nil || len(got) != 2 || got[0].Held || !got[1].Held {
		t.Errorf("%+v, %v; want the valve marked", got, err)
	}
	if err := MarkHeld(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
}

func TestHandleNames(t *testing.T) {
	for name, l := range map[string]Line{
		"safe-pump@gpio_1.3":              {Output: "pump", Label: "gpio 1", Offset: 3},
		"safe-P_mpe_1@20200000.gpio__.17": {Output: "Pümpe:1", Label: "20200000.gpio\n:", Offset: 17},
	} {
		if got := (Handle{Line: l}).Name(); got != name {
			t.Errorf("%+v is named %q, want %q", l, got, name)
		}
	}
	long := Handle{Line: Line{Output: strings.Repeat("p", 300), Label: "pinctrl-bcm2711", Offset: 7}}.Name()
	if len(long) > 255 || !strings.HasSuffix(long, "@pinctrl-bcm2711.7") {
		t.Errorf("a long name became %q", long)
	}
}

// odd are records in other forms than we write.
var odd = []string{
	`{"output":"pump","label":"l","offset":1,"safe":"off"}`, // no drive
	`{"output":"pump","label":"l","offset":1,"drive":"","safe":"off"}`,
	`{"output":"pump","label":"l","offset":1,"drive":null,"safe":"keep"}`,
	`{"output":"a\u001b[2J<>\u202e","label":"\u0007l","line":"\u009b","offset":1,"safe":"on"}`,
	`{"output":"\ud800","label":"\u0000","offset":1,"safe":"on"}`,
	`{"label":"l","OFFSET":2,"Safe":"on","offset":1}`,
	`{"output":"pump","label":"l","offset":1e0,"safe":"off"}`,
	`{"output":"pump","label":"l","offset":9223372036854775807,"safe":"off","new":[{}]}`,
}

// FuzzRecord checks that what was read from a record can be written and read again, and
// is safe to print.
func FuzzRecord(f *testing.F) {
	f.Add(pumpLine + "\n" + valveLine)
	for _, line := range odd {
		f.Add(line)
		f.Add(line + "\nnot JSON \x1b[2J\n" + pumpLine)
	}
	path := filepath.Join(f.TempDir(), "outputs")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return // the written record may be larger, and too large to read
		}
		var read []Line
		for _, line := range strings.Split(text, "\n") {
			l, err := parseLine([]byte(line))
			shown := l.String()
			if err != nil {
				shown = err.Error()
			} else {
				read = append(read, l)
			}
			if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) {
				t.Errorf("shown as %q", shown)
			}
		}
		if err := writeRecord(path, read); err != nil {
			t.Fatal(err)
		}
		if again, err := Recorded(path); err != nil || !slices.Equal(again, read) {
			t.Errorf("%+v, %v; want %+v", again, err, read)
		}
	})
}

// A record without a drive, perhaps written by hand, can still be read after it was
// marked.
func TestRecordWithoutDrive(t *testing.T) {
	path := recordOf(t, odd[0])
	for range 2 {
		lines, err := Recorded(path)
		if err != nil || len(lines) != 1 || lines[0].Drive != "push-pull" {
			t.Fatalf("%+v, %v", lines, err)
		}
		if err := MarkHeld(path, []Handle{{Line: lines[0]}}); err != nil {
			t.Fatal(err)
		}
	}
}

// A second daemon with the same record gets an error. The end of the first one releases
// the lock.
func TestOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outputs")
	first, err := Own(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Own(path); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "RUNTIME_DIRECTORY") || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("the second: %v", err)
	}
	if info, err := os.Stat(path + ".lock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the lock: %v, %v; want it closed to others", info, err)
	}
	if err := writeRecord(path, []Line{simLine("pump", 27, SafeOff)}); err != nil {
		t.Errorf("the owner cannot write: %v", err)
	}
	other, err := Own(filepath.Join(t.TempDir(), "outputs"))
	if err != nil {
		t.Errorf("another directory: %v", err)
	}
	if err := errors.Join(first.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	again, err := Own(path)
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Own(filepath.Join(t.TempDir(), "none", "outputs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
