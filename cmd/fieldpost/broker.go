package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/systemd"

	"github.com/spf13/cobra"
)

const brokerHelp = `Run the embedded broker, a stand-in for AWS IoT Core, with mutual TLS. On first use it
creates a CA and certificates in --dir, with the file names that AWS uses. It is meant
for trials and tests: it keeps sessions in memory only. At its start it lists what it
does not do.

With --policy it allows what those AWS IoT policies allow, as if they were attached to
every client's certificate, and every client id were the name of a thing that the
certificate is attached to. Without --policy it allows everything, as the tutorial's
open policy does. The log names each refused request and the statement that denied it
or came closest to allowing it. Clients learn no more than AWS IoT Core tells them.

--devices names a JSON file of certificates, each with its own policies and thing:

  {"thing-1": {"policies": ["own.json"], "type": "pump", "attributes": {"room": "cellar"}},
   "laptop":  {"policies": ["laptop.json"], "thing": ""}}

Paths are relative to the file. The broker makes NAME.certificate.pem.crt and
NAME.private.pem.key in --dir, unless "certificate" names one of its CA. The thing is
called NAME unless "thing" says otherwise ("" means no thing). With "exclusive": true it
is the certificate's thing whatever the client id is; with "active": false the
certificate is refused.

With --template it provisions devices by claim, as AWS IoT does, for keys that the
devices make themselves: it creates a claim certificate, signs certificate requests
with its CA, and registers things by the templates. --claim-policy applies only to the
claim certificate. A policy document in a template applies to the certificates that are
registered with it.`

func newBroker() *cobra.Command {
	var o broker.Options
	var policies, claimPolicies, templates []string
	var life time.Duration
	tellDenied := true
	c := &cobra.Command{
		Use:   "broker",
		Short: "run only the embedded broker, for trials",
		Long:  brokerHelp,
		Example: `  fieldpost broker --dir certs --listen 127.0.0.1:8883
  fieldpost broker --policy configs/policies/restricted.json
  fieldpost broker --devices devices.json
  fieldpost broker --template fieldpost=configs/provisioning/template.json
  mosquitto_sub -h 127.0.0.1 -p 8883 --cafile certs/AmazonRootCA1.pem \
    --cert certs/certificate.pem.crt --key certs/private.pem.key -t test/topic`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.SessionExpiry <= 0 {
				return usage(c, errors.New("--session-expiry must be more than 0"))
			}
			o.Log, o.Silent = systemd.NewLogger(c.ErrOrStderr(), slog.LevelInfo), !tellDenied
			said := "open: everything is allowed, as by configs/policies/open.json; --policy FILE allows less"
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
			printBroker(c.OutOrStdout(), b, said, o.Provisioning != nil, o.Dir)
			return b.Run(c.Context())
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "certs", "`directory` for the certificates")
	c.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8883", "`address` to listen on")
	c.Flags().StringArrayVar(&policies, "policy", nil, "`file` of an AWS IoT policy; may be repeated")
	c.Flags().BoolVar(&tellDenied, "deny-log", true, "log each refusal and its cause; --deny-log=false logs nothing, like AWS IoT Core")
	c.Flags().BoolVar(&o.Rates, "rates", true, "apply the limits per second: discard more than 100 messages each way, delay more than 512 KiB, send a session's stored messages at 10, refuse the second CONNECT of a client id")
	c.Flags().DurationVar(&o.SessionExpiry, "session-expiry", awsiot.SessionExpiry, "how long a session outlives its connection")
	c.Flags().StringVar(&o.Devices, "devices", "", "`file` of certificates with their own policies")
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

// printBroker prints where a broker listens, what clients need, and what it is not.
func printBroker(w io.Writer, b *broker.Broker, policy string, provisions bool, dir string) {
	f := b.Files()
	fmt.Fprintf(w, "endpoint    %s\nca          %s\ncertificate %s\nkey         %s\npolicy      %s\n", b.Addr(), f.CA, f.Certificate, f.Key, policy)
	if provisions {
		certificate, key := broker.ClaimFiles(dir)
		fmt.Fprintf(w, "claim       %s\nclaim key   %s\n", certificate, key)
	}
	for _, d := range b.Devices() {
		fmt.Fprintf(w, "device      %s\n", deviceText(d))
	}
	fmt.Fprintln(w, "This is a stand-in for AWS IoT Core. It does not:")
	for _, what := range broker.Missing {
		fmt.Fprintf(w, "  - %s\n", what)
	}
}

// deviceText describes a device in one line.
func deviceText(d broker.Device) string {
	text := d.Name + ": " + d.Certificate
	if d.Key != "" {
		text += ", " + d.Key
	}
	if d.Thing == nil {
		text += ", attached to no thing"
	} else if d.Thing.Name != d.Name {
		text += ", attached to the thing " + d.Thing.Name
	}
	if d.Inactive {
		text += ", not active"
	}
	return text
}
