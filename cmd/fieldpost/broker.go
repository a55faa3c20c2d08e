package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/systemd"

	"github.com/spf13/cobra"
)

func newBroker() *cobra.Command {
	var o broker.Options
	var policies, claimPolicies, templates []string
	var life time.Duration
	tellDenied := true
	c := &cobra.Command{
		Use:   "broker",
		Short: "run only the embedded broker, for trials",
		Long: `Run the embedded broker, which behaves like AWS IoT Core, with mutual TLS. On first
use it creates a CA and certificates in --dir, with the file names that AWS uses. It
is meant for trials and tests: it keeps sessions in memory only.

With --policy it allows what those AWS IoT policies allow, as if they were attached to
every client's certificate, and every client id were the name of a thing that the
certificate is attached to. Without --policy it allows everything, as the tutorial's
open policy does. The log names each refused request and the statement that denied it
or came closest to allowing it. Clients are told no more than AWS IoT Core tells them.

With --template it provisions devices by claim, as AWS IoT does, for keys that the
devices make themselves: it creates a claim certificate, signs certificate requests
with its CA, and registers things by the templates. --claim-policy applies only to the
claim certificate. A policy that is written out in a template applies to the
certificates that are registered with it.`,
		Example: `  fieldpost broker --dir certs --listen 127.0.0.1:8883
  fieldpost broker --policy configs/policies/restricted.json
  fieldpost broker --template fieldpost=configs/provisioning/template.json
  mosquitto_sub -h 127.0.0.1 -p 8883 --cafile certs/AmazonRootCA1.pem \
    --cert certs/certificate.pem.crt --key certs/private.pem.key -t test/topic`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log, o.Silent = systemd.NewLogger(c.ErrOrStderr(), slog.LevelInfo), !tellDenied
			said := "everything is allowed; --policy FILE allows less"
			if len(policies) > 0 {
				var err error
				if o.Policy, err = need.Read(c.InOrStdin(), policies...); err != nil {
					return err
				}
				said = strings.Join(policies, ", ")
			}
			var err error
			if o.Provisioning, err = provisioning(c, templates, claimPolicies, life); err != nil {
				return err
			}
			b, err := broker.New(o)
			if err != nil {
				return err
			}
			f := b.Files()
			fmt.Fprintf(c.OutOrStdout(), "endpoint    %s\nca          %s\ncertificate %s\nkey         %s\npolicy      %s\n", b.Addr(), f.CA, f.Certificate, f.Key, said)
			if o.Provisioning != nil {
				certificate, key := broker.ClaimFiles(o.Dir)
				fmt.Fprintf(c.OutOrStdout(), "claim       %s\nclaim key   %s\n", certificate, key)
			}
			return b.Run(c.Context())
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "certs", "`directory` for the certificates")
	c.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8883", "`address` to listen on")
	c.Flags().StringArrayVar(&policies, "policy", nil, "`file` of an AWS IoT policy; may be repeated")
	c.Flags().BoolVar(&tellDenied, "deny-log", true, "log each refusal and its cause; --deny-log=false logs nothing, like AWS IoT Core")
	c.Flags().BoolVar(&o.Rates, "rates", true, "discard what a client publishes above 100 messages a second, as AWS IoT Core does")
	c.Flags().StringArrayVar(&templates, "template", nil, "provision devices by this template: `name=file`, a provisioning template of AWS IoT in JSON; may be repeated")
	c.Flags().StringArrayVar(&claimPolicies, "claim-policy", nil, "`file` of an AWS IoT policy for the claim certificate; may be repeated (default: everything is allowed)")
	c.Flags().DurationVar(&life, "certificate-life", 0, "how long issued certificates are valid (default: as long as the CA)")
	return c
}

// provisioning reads what the broker provisions devices by; nil where it does not.
func provisioning(c *cobra.Command, templates, claimPolicies []string, life time.Duration) (*broker.Provisioning, error) {
	if len(templates) == 0 {
		if len(claimPolicies) > 0 || life != 0 {
			return nil, usage(c, errors.New("--claim-policy and --certificate-life need --template"))
		}
		return nil, nil
	}
	if life < 0 {
		return nil, usage(c, fmt.Errorf("--certificate-life %v: want a time that is not negative", life))
	}
	p := &broker.Provisioning{Lifetime: life}
	for _, t := range templates {
		name, file, ok := strings.Cut(t, "=")
		if !ok || file == "" {
			return nil, usage(c, fmt.Errorf("--template %q: want name=file", t))
		}
		template, err := broker.ReadTemplate(name, file)
		if err != nil {
			return nil, err
		}
		p.Templates = append(p.Templates, template)
	}
	if len(claimPolicies) > 0 {
		var err error
		if p.ClaimPolicy, err = need.Read(c.InOrStdin(), claimPolicies...); err != nil {
			return nil, err
		}
	}
	return p, nil
}
