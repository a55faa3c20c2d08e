//go:build rehearsal

package task

import (
	"os"
	"strings"
)

// Rehearse makes a loop or a goroutine go wrong, in a build for rehearsals only: the
// file that FIELDPOST_REHEARSE names says "hang NAME" or "panic NAME". It is looked at
// with each heartbeat of a loop, and when a goroutine of a [Group] begins.
func Rehearse(name string) {
	text, err := os.ReadFile(os.Getenv("FIELDPOST_REHEARSE"))
	if err != nil {
		return // nothing is to go wrong
	}
	switch how, which, _ := strings.Cut(strings.TrimSpace(string(text)), " "); {
	case which != name:
	case how == "hang":
		println("rehearsal: " + name + " hangs") // standard error: the journal has the time
		select {}
	case how == "panic":
		panic("rehearsal: " + name)
	}
}
