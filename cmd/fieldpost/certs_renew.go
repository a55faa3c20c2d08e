package main

import (
	"context"
	"fmt"
	"time"

	"fieldpost/daemon/client"
	"fieldpost/daemon/visible"

	"github.com/spf13/cobra"
)

// renewTime is how long a renewal may take, and its answer.
const renewTime = 200 * time.Second

func newCertsRenew(file *string) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "renew",
		Short: "make the daemon renew its certificate now",
		Long: `Make the daemon on this machine renew its certificate now, by fleet provisioning
(broker.provisioning), and print the result. If the board has no certificate yet, or a
renewal is under way, the daemon continues without waiting any longer.

The daemon makes a new key, which never leaves this board, gets a certificate for it,
and connects with the two. The present pair is replaced only when the broker has
accepted the connection and acknowledged a message; otherwise the daemon returns to
it at once. No message and no order is lost, and no output changes.

If the template registered the new certificate for another thing, the renewal is given
up and starts again.

The exit status is 0 only if the new certificate is in use.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			thing, err := thingOf(*file)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), renewTime)
			defer cancel()
			a, err := client.AskRenew(ctx, socket, thing)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the new certificate is in use: %s, until %s\n", visible.Text(a.File), a.Expires.Format("2006-01-02"))
			return err
		},
	}
	socketFlag(c, &socket)
	return c
}
