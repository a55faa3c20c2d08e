package main

import (
	"io"
	"testing"

	"fieldpost/daemon/api"

	"github.com/spf13/cobra"
)

// The exit message counts only faults that no other fault explains.
func TestStatusSaysWhatIsWrong(t *testing.T) {
	bus := api.Fault{Code: "bus_stuck", Subject: "i2c-1", Title: "bus is stuck"}
	air := api.Fault{Code: "no_answer", Subject: "air", Title: "does not answer", Because: &api.Cause{Code: bus.Code, Subject: bus.Subject}}
	far := api.Fault{Code: "no_answer", Subject: "far", Title: "does not answer"}
	for _, tc := range []struct {
		faults []api.Fault
		want   string
	}{
		{nil, ""},
		{[]api.Fault{air, bus}, "i2c-1: bus is stuck"},
		{[]api.Fault{air, far, bus}, "there are 2 faults"},
	} {
		c := &cobra.Command{}
		c.SetOut(io.Discard)
		got := ""
		if err := printStatus(c, api.Status{Faults: tc.faults}, false); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%d faults: %q, want %q", len(tc.faults), got, tc.want)
		}
	}
}
