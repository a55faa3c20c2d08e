package main

import (
	"context"
	"fmt"
	"time"

	"fieldpost/daemon/client"

	"github.com/spf13/cobra"
)

// exportTime is how long an export may take.
const exportTime = 5 * time.Minute

func newExport() *cobra.Command {
	var r client.ExportRequest
	var socket string
	c := &cobra.Command{
		Use:   "export",
		Short: "print past readings of this board as CSV or JSON",
		Long: `Print the past readings that the daemon on this machine keeps, as CSV with a header
or as a JSON array with an object a line. Each line is a point: the time at which it begins, in
UTC, the sensor, the quantity, its unit as a UCUM code, and the mean, the least and the
greatest value. Truth values are 0 and 1.

--since and --until are times such as 2026-11-29T08:00:00Z, or durations such as 90m,
12h, 1d or 2w: how long before --until, and how long ago. The daemon keeps points of 10
seconds for an hour, of 10 minutes for a day and of 30 minutes for a week; --since decides
which of them are printed. Where a sensor gave no readings there are no lines.

What is kept, and where, is set by history in the configuration. You must be in the
group fieldpost to use the daemon's socket.`,
		Example: "  fieldpost export --since 1d --format csv >day.csv\n  fieldpost export --since 1h --sensor air --format json | jq '.[].mean'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := r.Check(); err != nil {
				return usage(c, err)
			}
			ctx, cancel := context.WithTimeout(c.Context(), exportTime)
			defer cancel()
			note, err := client.Export(ctx, socket, r, c.OutOrStdout())
			if note != "" {
				fmt.Fprintln(c.ErrOrStderr(), "fieldpost: "+note)
			}
			return err
		},
	}
	c.Flags().StringVar(&r.Since, "since", "1d", "from this `time` on, or for so long before --until")
	c.Flags().StringVar(&r.Until, "until", "", "up to this `time`, or until so long ago (default now)")
	c.Flags().StringArrayVar(&r.Sensors, "sensor", nil, "only this `sensor`; may be given several times")
	c.Flags().StringVar(&r.Format, "format", "csv", "csv or json")
	socketFlag(c, &socket)
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(client.ExportFormats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	_ = c.RegisterFlagCompletionFunc("sensor", completeSensors(&socket))
	return c
}

// completeSensors completes the names of the running daemon's sensors.
func completeSensors(socket *string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // c has no context
		defer cancel()
		r, err := client.AskStatus(ctx, *socket)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, s := range r.Sensors {
			names = append(names, s.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
