package main

import (
	"fmt"
	"time"

	"fieldpost/daemon/doctor"
	"fieldpost/sensors/board"

	"github.com/spf13/cobra"
)

func newCheck(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "examine the configuration, the certificates and this machine's buses and lines",
		Long: `Examine what can be examined without the broker: every line of the
configuration, whether key and certificate belong together and until when they
are valid, what other users may read or change, and whether this machine has the buses, thermal
zones and lines, and nobody else has the lines and the chips' addresses. Exit status 0 if the daemon can do its work, 78 if not.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(*file)
			if err != nil {
				return err
			}
			var hardware board.Board
			if m, err := board.Open(); err != nil {
				fmt.Fprintf(c.OutOrStdout(), "note: buses and lines are not examined: %v\n", err)
			} else {
				hardware = m
			}
			return doctor.Check(cfg, hardware, runtimeDir(), time.Now(), c.OutOrStdout())
		},
	}
}
