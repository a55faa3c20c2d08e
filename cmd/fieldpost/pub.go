package main

import (
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"

	"github.com/spf13/cobra"
)

// accountFlags are the flags of a client that may have no configuration file.
type accountFlags struct {
	endpoint, ca, cert, key, clientID string
}

func (f *accountFlags) add(c *cobra.Command, clientID string) {
	c.Flags().StringVar(&f.endpoint, "endpoint", "", "`host` or host:port of the broker (default: the configuration's)")
	c.Flags().StringVar(&f.ca, "ca", "certs/AmazonRootCA1.pem", "PEM `file` with the broker's root certificates")
	c.Flags().StringVar(&f.cert, "cert", "certs/certificate.pem.crt", "PEM `file` with the client's certificate")
	c.Flags().StringVar(&f.key, "key", "certs/private.pem.key", "PEM `file` with the client's private key")
	c.Flags().StringVar(&f.clientID, "client-id", clientID, "MQTT client `id`")
}

// account returns the broker and credentials that the flags describe. Without
// --endpoint they are those of the configuration, except for files that flags
// name.
func (f *accountFlags) account(c *cobra.Command, file string) (client.Account, error) {
	a := client.Account{Endpoint: f.endpoint, CA: f.ca, Certificate: f.cert, Key: f.key, ClientID: f.clientID}
	if a.Endpoint != "" {
		at, err := endpoint.Parse(a.Endpoint)
		if err != nil {
			return a, usage(c, fmt.Errorf("--endpoint %q: %w", a.Endpoint, err))
		}
		a.Endpoint = at.String()
		return a, nil
	}
	cfg, err := load(file)
	if err != nil {
		if file == "" && errors.Is(err, config.ErrUnusable) {
			return a, usage(c, errors.New("no broker: use --endpoint HOST, or name a configuration with -c"))
		}
		return a, err
	}
	a.Endpoint = cfg.Endpoint()
	for flag, of := range map[string]struct{ to, from *string }{
		"ca": {&a.CA, &cfg.Broker.CA}, "cert": {&a.Certificate, &cfg.Broker.Certificate}, "key": {&a.Key, &cfg.Broker.Key},
	} {
		if !c.Flags().Changed(flag) {
			*of.to = *of.from
		}
	}
	return a, nil
}

func newPub(file *string) *cobra.Command {
	var f accountFlags
	var o client.PublishOptions
	c := &cobra.Command{
		Use:   "pub",
		Short: "publish messages like the AWS IoT tutorial's publisher",
		Long: `Publish messages to a topic at QoS 1 and wait until each is acknowledged. The defaults
are those of the AWS IoT tutorial's publisher: five JSON messages, half a second
apart.`,
		Example: "  fieldpost pub --endpoint a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Every <= 0 || o.Count < 0 {
				return usage(c, errors.New("--every must be more than 0 and --count 0 or more"))
			}
			a, err := f.account(c, *file)
			if err != nil {
				return err
			}
			o.Account, o.Out, o.Log = a, c.OutOrStdout(), quietLog(c)
			return client.Publish(c.Context(), o)
		},
	}
	f.add(c, "test-pub")
	c.Flags().StringVar(&o.Topic, "topic", "test/topic", "`topic` to publish to")
	c.Flags().StringVar(&o.Message, "message", "Hello from fieldpost", "`text` of each message")
	c.Flags().IntVar(&o.Count, "count", 5, "number of messages; 0 is until Ctrl-C")
	c.Flags().DurationVar(&o.Every, "every", 500*time.Millisecond, "time between messages")
	return c
}
