package main

import (
	"fieldpost/daemon"

	"github.com/spf13/cobra"
)

func newSafe() *cobra.Command {
	return &cobra.Command{
		Use:   "safe",
		Short: "drive the outputs of the last run to their safe levels",
		Long: `Drive every output line that the daemon recorded in /run/fieldpost/outputs to its safe
level. This needs neither the daemon nor its configuration. The unit runs it after
every stop (ExecStopPost=). There it also passes the lines to systemd, which keeps
them driven.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ignoreSIGPIPE()
			return daemon.MakeSafe(recordPath(), hold, drivePWM, c.OutOrStdout())
		},
	}
}
