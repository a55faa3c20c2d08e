package main

import (
	"fmt"
	"log/slog"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/systemd"

	"github.com/spf13/cobra"
)

func newBroker() *cobra.Command {
	var o broker.Options
	c := &cobra.Command{
		Use:   "broker",
		Short: "run the embedded broker on its own, for trials",
		Long: `Run the embedded broker, which behaves like AWS IoT Core, with mutual TLS. On
first use it creates a CA and certificates in --dir, with the file names that AWS
uses. It is for trials and tests: it keeps sessions in memory only.`,
		Example: `  fieldpost broker --dir certs --listen 127.0.0.1:8883
  mosquitto_sub -h 127.0.0.1 -p 8883 --cafile certs/AmazonRootCA1.pem \
    --cert certs/certificate.pem.crt --key certs/private.pem.key -t test/topic`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log = systemd.NewLogger(c.ErrOrStderr(), slog.LevelInfo)
			b, err := broker.New(o)
			if err != nil {
				return err
			}
			f := b.Files()
			fmt.Fprintf(c.OutOrStdout(), "endpoint    %s\nca          %s\ncertificate %s\nkey         %s\n", b.Addr(), f.CA, f.Certificate, f.Key)
			return b.Run(c.Context())
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "certs", "`directory` for the certificates")
	c.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8883", "`address` to listen on")
	return c
}
