package main

import (
	"errors"

	"fieldpost/daemon/client"

	"github.com/spf13/cobra"
)

func newSub(file *string) *cobra.Command {
	var f accountFlags
	var o client.SubscribeOptions
	c := &cobra.Command{
		Use:   "sub",
		Short: "print messages like the AWS IoT tutorial's subscriber",
		Long: `Subscribe to a topic at QoS 1 with a persistent session, and print each message. It
ends after --count messages, or with Ctrl-C.`,
		Example: "  fieldpost sub --endpoint a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com --count 5",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Count < 0 {
				return usage(c, errors.New("--count must be 0 or more"))
			}
			a, err := f.account(c, *file)
			if err != nil {
				return err
			}
			o.Account, o.Out, o.Log = a, c.OutOrStdout(), quietLog(c)
			return client.Subscribe(c.Context(), o)
		},
	}
	f.add(c, "test-sub")
	c.Flags().StringVar(&o.Topic, "topic", "test/topic", "`topic` filter to subscribe to")
	c.Flags().IntVar(&o.Count, "count", 0, "number of messages; 0 is until Ctrl-C")
	return c
}
