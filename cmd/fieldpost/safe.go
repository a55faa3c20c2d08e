package main

import (
	"fieldpost/daemon"

	"github.com/spf13/cobra"
)

func newSafe() *cobra.Command {
	return &cobra.Command{
		Use:   "safe",
		Short: "drive the outputs of the daemon's last run to their safe levels",
		Long: `Drive every output line that the daemon recorded in /run/fieldpost/outputs to
its safe level, whatever became of the daemon and its configuration. Run by the
unit after every stop (ExecStopPost=), it hands the lines to systemd, so that
they stay driven.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			outliveReader()
			return daemon.MakeSafe(recordPath(), hold, c.OutOrStdout())
		},
	}
}
