package main

import (
	"context"
	"errors"
	"time"

	"fieldpost/daemon/client"

	"github.com/spf13/cobra"
)

// reconnectTime is how long an attempt to connect and its answer may take.
const reconnectTime = 50 * time.Second

func newReconnect(file *string) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reconnect",
		Short: "make the daemon connect to its broker now",
		Long: `Make the daemon on this machine connect to its broker now, and print the result.

Use it after you have fixed the cause of a refusal. The daemon waits up to 15 minutes
before it tries again after a refusal, and up to 2 minutes while another client uses
its client id. Also use it to switch to a new certificate: the daemon closes an open
connection and connects with the certificate, key and root that are in the files now.
It also retries the topics that the broker denied. Waiting messages are kept and sent
afterwards.

The exit status is 0 only if the daemon is connected afterwards and the connection has
no fault.`,
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
				return errors.New("the connection is down again")
			}
			return nil
		},
	}
	socketFlag(c, &socket)
	return c
}
