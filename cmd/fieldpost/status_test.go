package main

import (
	"io"
	"testing"

	"fieldpost/daemon"

	"github.com/spf13/cobra"
)

// What is wrong is told by the one fault that explains the others.
func TestStatusSaysWhatIsWrong(t *testing.T) {
	bus := daemon.FaultReport{Code: "bus_stuck", Subject: "i2c-1", Title: "bus is stuck"}
	air := daemon.FaultReport{Code: "no_answer", Subject: "air", Title: "does not answer", Because: &daemon.CauseReport{Code: bus.Code, Subject: bus.Subject}}
	far := daemon.FaultReport{Code: "no_answer", Subject: "far", Title: "does not answer"}
	for _, tc := range []struct {
		faults []daemon.FaultReport
		want   string
	}{
		{nil, ""},
		{[]daemon.FaultReport{air, bus}, "i2c-1: bus is stuck"},
		{[]daemon.FaultReport{air, far, bus}, "2 things are wrong"},
	} {
		c := &cobra.Command{}
		c.SetOut(io.Discard)
		got := ""
		if err := printStatus(c, daemon.Report{Faults: tc.faults}, false); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%d faults: %q, want %q", len(tc.faults), got, tc.want)
		}
	}
}
