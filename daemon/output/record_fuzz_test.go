package output

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// odd are records that are no longer, or never were, as we write them.
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

// FuzzRecord: what can be read of a record can be written and is read again the
// same, and nothing of it does anything to a terminal.
func FuzzRecord(f *testing.F) {
	f.Add(pumpLine + "\n" + valveLine)
	for _, line := range odd {
		f.Add(line)
		f.Add(line + "\nnot JSON \x1b[2J\n" + pumpLine)
	}
	path := filepath.Join(f.TempDir(), "outputs")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return // what is written may be larger, and not be read for that
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

// A record without a drive, as one may write it by hand, stays good when it is
// marked: it was written so that it could not be read.
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
