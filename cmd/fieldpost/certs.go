package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/visible"

	"github.com/spf13/cobra"
)

func newCerts(file *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "certs",
		Short: "make keys and certificate requests, and examine certificates",
		Long: `Make a device's private key and certificate request, examine keys and certificates,
make certificates for your own broker, or have the daemon renew its certificate.
Apart from renew, none of these needs a network or an account, and
no existing file is ever replaced.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCertsNew(), newCertsInspect(file), newCertsDev(), newCertsRenew(file))
	return c
}

func newCertsNew() *cobra.Command {
	var dir, thing, kind string
	c := &cobra.Command{
		Use:   "new --thing NAME",
		Short: "make a private key, and the request for its certificate",
		Long: `Make a private key and a certificate signing request on this machine:
DIR/private.pem.key (mode 0600) and DIR/certificate.pem.csr. An authority makes the
certificate from the request, so the key need never leave the machine.

An existing file is never replaced. If there is a key without a request, the request
is made for that key.

fieldpost-provision does this and all the rest for AWS IoT Core.`,
		Example: `  fieldpost certs new --thing thing-greenhouse
  aws iot create-certificate-from-csr --set-as-active \
    --certificate-signing-request file://certs/certificate.pem.csr \
    --certificate-pem-outfile certs/certificate.pem.crt`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if thing == "" {
				return usage(c, fmt.Errorf("no thing: give its name with --thing"))
			}
			if strings.ContainsFunc(thing, visible.Hidden) {
				return usage(c, fmt.Errorf("--thing %q: want characters that can be seen", thing))
			}
			if k := c.Flags().Lookup("key-type"); k.Changed && kind != identity.P256 && kind != identity.RSA2048 {
				return usage(c, fmt.Errorf("--key-type %q: want %s or %s", kind, identity.P256, identity.RSA2048))
			} else if !k.Changed {
				kind = "" // whatever is there
			}
			files := identity.FilesIn(dir)
			pair, err := identity.Make(files, kind, thing, nil)
			for _, path := range pair.Made {
				fmt.Fprintf(c.OutOrStdout(), "made %s\n", visible.Text(path))
			}
			if err != nil {
				return fmt.Errorf("make key and request: %w", err)
			}
			if len(pair.Made) == 0 {
				return fmt.Errorf("%q and %q exist and were left alone; choose another directory with --dir", files.Key, files.Request)
			}
			if len(pair.Made) == 1 {
				fmt.Fprintf(c.OutOrStdout(), "kept %s, %s\n", visible.Text(files.Key), identity.DescribeKey(pair.Key.Public()))
			}
			return nil
		},
	}
	c.Flags().StringVar(&thing, "thing", "", "the thing's `name`, for the subject of the request")
	c.Flags().StringVar(&dir, "dir", "certs", "`directory` for the files")
	c.Flags().StringVar(&kind, "key-type", identity.P256, "p256 or rsa2048")
	return c
}

func newCertsInspect(file *string) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "inspect [FILE...]",
		Short: "show what certificates, keys and requests contain, and what is wrong with them",
		Long: `Show what each of these PEM files holds: subject, issuer, dates compared with this
machine's clock, the certificate's id in AWS IoT (the SHA-256 of the certificate),
which key belongs to which certificate, and who signed it. Private keys themselves are
not shown. Without FILE, the files of the configuration are examined.

The exit status is 1 if something in them cannot be used.`,
		Example: `  fieldpost certs inspect certs/*
  fieldpost certs inspect -c /etc/fieldpost/fieldpost.yaml`,
		RunE: func(c *cobra.Command, files []string) error {
			if len(files) == 0 {
				cfg, err := loadWithoutFiles(*file)
				if err != nil {
					return err
				}
				files = slices.DeleteFunc(slices.Compact([]string{cfg.Broker.CA, cfg.Broker.Certificate, cfg.Broker.Key}), func(f string) bool { return f == "" })
			}
			report := identity.Inspect(time.Now(), files...)
			var err error
			if asJSON {
				err = writeJSON(c.OutOrStdout(), report)
			} else {
				err = report.Write(c.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if report.Problems > 0 {
				return fmt.Errorf("%d problems", report.Problems)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newCertsDev() *cobra.Command {
	var dir string
	var hosts, devices []string
	c := &cobra.Command{
		Use:   "dev",
		Short: "make certificates for your own broker",
		Long: `Make an authority for development, a certificate for a broker on this machine
(127.0.0.1, ::1, localhost and each --host), and one for clients, with the file names
that AWS uses. They are the same files as fieldpost broker makes. Each --device NAME
gets its own certificate in DIR/NAME, together with the root.

Existing files are kept, and missing ones are made. A directory with certificates from
elsewhere is left alone.`,
		Example: `  fieldpost certs dev --dir certs --host broker.lan --device thing-greenhouse
  mosquitto -c broker.conf   # cafile certs/AmazonRootCA1.pem, certfile certs/server.pem.crt, keyfile certs/server.pem.key`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := broker.Certificates(dir, hosts...)
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			for _, row := range [][2]string{{"ca", f.CA}, {"ca key", f.CAKey}, {"server certificate", f.ServerCertificate}, {"server key", f.ServerKey}, {"certificate", f.Certificate}, {"key", f.Key}} {
				fmt.Fprintf(w, "%-18s %s\n", row[0], visible.Text(row[1]))
			}
			for _, name := range devices {
				d, err := broker.DeviceCertificate(dir, name)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%-18s %s\n", "device "+name, visible.Text(d.Certificate))
			}
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "certs", "`directory` for the files")
	c.Flags().StringArrayVar(&hosts, "host", nil, "another `name` or address of the broker; repeatable")
	c.Flags().StringArrayVar(&devices, "device", nil, "`name` of a device that gets its own certificate; repeatable")
	return c
}
