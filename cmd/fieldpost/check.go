package main

import (
	"context"
	"fmt"
	"time"

	"fieldpost/daemon/doctor"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/board"

	"github.com/spf13/cobra"
)

func newCheck(file *string) *cobra.Command {
	var policies []string
	c := &cobra.Command{
		Use:   "check",
		Short: "check the configuration, the certificates and this machine's hardware",
		Long: `Check everything that can be checked without the broker:

- the whole configuration;
- that key and certificate belong together, and when they expire;
- that other users cannot read the key or change fieldpost's files;
- that this machine has the buses, devices, thermal zones and lines;
- that no other program or kernel driver uses the lines and the chips' addresses;
- with --policy, that AWS IoT Core would allow what the daemon does, if the thing is
  registered and the certificate attached to it.

The exit status is 0 if the daemon can work with this configuration, 78 if not.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(*file)
			if err != nil {
				return err
			}
			m, err := thisMachine(c.Context())
			if err != nil {
				fmt.Fprintf(c.OutOrStdout(), "note: buses and lines were not checked: %v\n", err)
			}
			return doctor.Check(cfg, m, time.Now(), c.OutOrStdout(), policies...)
		},
	}
	c.Flags().StringArrayVar(&policies, "policy", nil, "`file` of an AWS IoT policy that is attached to the certificate; may be repeated")
	return c
}

// thisMachine describes the machine that the command runs on. The error says why its board
// was left out.
func thisMachine(ctx context.Context) (doctor.Machine, error) {
	m := doctor.Machine{Runtime: runtimeDir()}
	if v, err := systemd.Version(ctx); err == nil { // no systemd: nothing to say of it
		m.Systemd = v
	}
	b, err := board.Open()
	if err == nil {
		m.Board = b
	}
	return m, err
}
