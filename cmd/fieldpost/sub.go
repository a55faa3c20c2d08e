package main

import (
	"errors"
	"fmt"

	"fieldpost/daemon/client"
	"fieldpost/daemon/topic"

	"github.com/spf13/cobra"
)

func newSub(file *string) *cobra.Command {
	var f accountFlags
	var o client.SubscribeOptions
	var pretty, raw bool
	var qos int
	c := &cobra.Command{
		Use:   "sub",
		Short: "print messages like the AWS IoT tutorial's subscriber",
		Long: `Subscribe to a topic, or with + and # to many, and print each message with its topic.
Those that the broker had retained are marked. The defaults are those of the AWS IoT
tutorial's subscriber: QoS 1 and a persistent session.

It ends after --count messages, after --wait, or with Ctrl-C. The exit status is 0 if
--count messages came, or with --wait alone at least one, and after Ctrl-C. It is 1 if
fewer came in time or the broker refused. Then the command prints the broker's reason,
if it gives one over MQTT 5, and the statements that an AWS IoT policy would need.`,
		Example: `  fieldpost sub --endpoint a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com --count 5
  fieldpost sub --topic 'test/#' --pretty
  fieldpost sub --topic site/config --raw --count 1 --wait 5s > config.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.Count < 0 || o.Wait < 0:
				return usage(c, errors.New("--wait and --count must be 0 or more"))
			case qos != 0 && qos != 1:
				return usage(c, fmt.Errorf("--qos %d: want 0 or 1", qos))
			case pretty && raw:
				return usage(c, errors.New("--pretty and --raw exclude each other"))
			}
			if err := topic.CheckFilter(o.Topic); err != nil {
				return usage(c, fmt.Errorf("--topic %q %w", o.Topic, err))
			}
			a, err := f.account(c, *file)
			if err != nil {
				return err
			}
			o.QoS = byte(qos)
			switch {
			case pretty:
				o.Format = client.Pretty
			case raw:
				o.Format = client.Raw
			}
			o.Account, o.Out, o.Log = a, c.OutOrStdout(), quietLog(c)
			return client.Subscribe(c.Context(), o)
		},
	}
	f.add(c, "test-sub")
	c.Flags().StringVar(&o.Topic, "topic", "test/topic", "`topic` or filter to subscribe to")
	c.Flags().IntVar(&o.Count, "count", 0, "number of messages; 0 is until Ctrl-C")
	c.Flags().DurationVar(&o.Wait, "wait", 0, "how long to wait for messages; 0 is for ever")
	c.Flags().IntVar(&qos, "qos", 1, "quality of service: 0 or 1")
	c.Flags().BoolVar(&pretty, "pretty", false, "indent JSON")
	c.Flags().BoolVar(&raw, "raw", false, "print only the payloads, byte by byte")
	return c
}
