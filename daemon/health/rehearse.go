//go:build rehearsal

package health

import (
	"os"
	"strings"
)

// rehearse makes a loop go wrong, in a build for rehearsals only: the file
// that FIELDPOST_REHEARSE names says "hang LOOP" or "panic LOOP". It is looked
// at with each heartbeat.
func rehearse(loop string) {
	text, err := os.ReadFile(os.Getenv("FIELDPOST_REHEARSE"))
	if err != nil {
		return // nothing is to go wrong
	}
	switch how, which, _ := strings.Cut(strings.TrimSpace(string(text)), " "); {
	case which != loop:
	case how == "hang":
		println("rehearsal: " + loop + " hangs") // standard error: the journal has the time
		select {}
	case how == "panic":
		panic("rehearsal: " + loop)
	}
}
