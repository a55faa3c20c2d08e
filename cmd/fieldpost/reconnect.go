package main

import (
	"context"
	"errors"
	"time"

	"fieldpost/daemon/client"

	"github.com/spf13/cobra"
)

// reconnectTime is how long an attempt to connect may take, and its answer.
const reconnectTime = 50 * time.Second

func newReconnect(file *string) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reconnect",
		Short: "have the daemon connect to its broker now",
		Long: `Have the daemon on this machine connect to its broker now, and print what comes of it.

After a refusal, or while another client uses its client id, the daemon waits for up to
15 minutes before it tries again. This ends the wait: for use when what was wrong is
mended. A connection that stands is ended in order and made anew, with the certificate,
key and root as they are in their files now. Topics that the broker has denied are tried
again. Mail that waits goes out afterwards as always.

The exit status is 0 only if the daemon is connected then and nothing is amiss with the
connection.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			thing, err := thingOf(*file)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), reconnectTime)
			defer cancel()
			a, err := client.AskReconnect(ctx, socket, thing)
			if err != nil {
				return err
			}
			if err := client.PrintReconnect(c.OutOrStdout(), a); err != nil {
				return err
			}
			if err := client.ReconnectError(a); err != nil {
				return err
			}
			if !a.Connected {
				return errors.New("the link is down again")
			}
			return nil
		},
	}
	socketFlag(c, &socket)
	return c
}
