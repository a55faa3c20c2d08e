package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/visible"

	"github.com/spf13/cobra"
)

func newPolicy(file *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "generate, simulate and check AWS IoT policies",
		Long: `Work with AWS IoT policies, without an account: nothing is asked of AWS. The answers
follow AWS's documentation; those that rest on a rule that it does not state say so.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPolicyGenerate(file), newPolicySimulate(file), newPolicyLint())
	return c
}

// loadWithoutFiles reads the configuration before there are certificates.
func loadWithoutFiles(file string) (*config.Config, error) {
	path, err := find(file)
	if err != nil {
		return nil, err
	}
	return config.LoadWithoutFiles(path)
}

// arnFlags say how ARNs begin.
type arnFlags struct{ region, account, prefix string }

func (a *arnFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&a.region, "region", "", "AWS `region` (default: the one in broker.endpoint)")
	c.Flags().StringVar(&a.account, "account", "", "AWS account, twelve `digits`")
	c.Flags().StringVar(&a.prefix, "arn-prefix", "", "how every ARN begins, instead of the two: `arn:aws:iot:REGION:ACCOUNT`")
}

// text gives the beginning of ARNs; "" where none was given and none must be.
func (a *arnFlags) text(cfg *config.Config, must bool) (string, error) {
	switch {
	case a.prefix != "" && (a.region != "" || a.account != ""):
		return "", errors.New("--arn-prefix says region and account already; give it or those two")
	case a.prefix != "":
		return need.CheckPrefix(a.prefix)
	case !must && a.region == "" && a.account == "":
		return "", nil
	}
	return need.Prefix(cfg, a.region, a.account)
}

func newPolicyGenerate(file *string) *cobra.Command {
	var arns arnFlags
	var o need.Options
	part := 0
	c := &cobra.Command{
		Use:   "generate",
		Short: "print the policy that this configuration needs, and no more",
		Long: `Print the AWS IoT policy that allows what the daemon does with this configuration,
and nothing else: to connect as its client id with its session and will, to publish
to its topics, to subscribe to and receive orders.

With --thing-variables the thing's name is left to AWS IoT Core, so that one policy
fits all boards whose topics are alike; the client id must be the thing's name, and
the certificate attached to the thing.

A policy has at most 2048 characters. Where one is too small, --part N prints the
N-th of several; attach all of them.`,
		Example: `  fieldpost policy generate --account 123456789012 > policy.json
  aws iot create-policy --policy-name greenhouse --policy-document file://policy.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadWithoutFiles(*file)
			if err != nil {
				return err
			}
			if o.Prefix, err = arns.text(cfg, true); err != nil {
				return usage(c, err)
			}
			docs, err := need.Generate(cfg, o)
			switch {
			case err != nil:
				return fmt.Errorf("generate policy: %w", err)
			case part == 0 && len(docs) == 1:
				part = 1
			case part == 0:
				return usage(c, fmt.Errorf("this configuration needs %d policies; print each with --part 1 to --part %d", len(docs), len(docs)))
			case part < 1 || part > len(docs):
				return usage(c, fmt.Errorf("--part %d: want 1 to %d", part, len(docs)))
			}
			_, err = c.OutOrStdout().Write(docs[part-1])
			return err
		},
	}
	arns.add(c)
	c.Flags().BoolVar(&o.ThingVariables, "thing-variables", false, "put ${iot:Connection.Thing.ThingName} in the place of the thing's name")
	c.Flags().BoolVar(&o.Sender, "send", false, "allow fieldpost send --via mqtt with the same certificate as well")
	c.Flags().IntVar(&part, "part", 0, "which one to print of several, from 1")
	return c
}

// registry says what of the connection the configuration cannot tell.
type registry struct {
	unattached bool
	kind       string
	attributes map[string]string
	source     string
}

func (r *registry) add(c *cobra.Command) {
	c.Flags().BoolVar(&r.unattached, "unattached", false, "assume that the certificate is not attached to the thing")
	c.Flags().StringVar(&r.kind, "thing-type", "", "the thing's `type` in the registry")
	c.Flags().StringToStringVar(&r.attributes, "attribute", nil, "an attribute of the thing in the registry, `name=value`")
	c.Flags().StringVar(&r.source, "source-ip", "", "the `address` that the connection comes from")
}

func (r *registry) connection(cfg *config.Config) (*awsiot.Connection, error) {
	by := need.Connection(cfg)
	by.Certificate = need.Certificate(cfg.Broker.Certificate)
	by.Thing.Attached, by.Thing.Type, by.Thing.Attributes = !r.unattached, r.kind, r.attributes
	if r.source != "" {
		a, err := netip.ParseAddr(r.source)
		if err != nil {
			return nil, fmt.Errorf("--source-ip %q: want an IP address", r.source)
		}
		by.SourceIP = a
	}
	return by, nil
}

func newPolicySimulate(file *string) *cobra.Command {
	var arns arnFlags
	var r registry
	var asJSON, sender bool
	c := &cobra.Command{
		Use:   "simulate POLICY...",
		Short: "tell whether policies allow what this configuration needs",
		Long: `Tell, action by action, whether AWS IoT Core would allow what the daemon does with
this configuration, by which statement, or why not; and what the policies allow
beyond that. Several files are policies that are attached to the same certificate;
- is standard input.

It is assumed that a thing of the configuration's name is registered and that the
certificate is attached to it. Region and account are compared where --account or
--arn-prefix is given.

The exit status is 0 if all is allowed, 1 if something is denied, 78 if the
configuration or a policy cannot be read.`,
		Example: `  fieldpost policy simulate configs/policies/restricted.json`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			cfg, err := loadWithoutFiles(*file)
			if err != nil {
				return err
			}
			prefix, err := arns.text(cfg, false)
			if err != nil {
				return usage(c, err)
			}
			by, err := r.connection(cfg)
			if err != nil {
				return usage(c, err)
			}
			p, err := need.Read(c.InOrStdin(), files...)
			if err != nil {
				return err
			}
			report := need.Simulate(cfg, p, by, prefix, sender)
			if asJSON {
				err = writeJSON(c.OutOrStdout(), report)
			} else {
				err = report.Write(c.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if report.Denied > 0 {
				return fmt.Errorf("%d of %d actions that are needed are denied", report.Denied, len(report.Needs))
			}
			return nil
		},
	}
	arns.add(c)
	r.add(c)
	c.Flags().BoolVar(&sender, "send", false, "ask for what fieldpost send --via mqtt needs as well")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newPolicyLint() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "lint POLICY...",
		Short: "name the traps in policies",
		Long: `Name what a policy does and nobody would expect: a Deny that a wider subscription gets
around, a client id that is a wildcard, a condition that holds where its key is absent, a
topic where a topic filter is wanted. Several files are policies that are attached to the
same certificate.

A policy named - is read from standard input.

The exit status is 1 if there is a trap, 0 if there are notes only, 78 if a policy cannot
be read.`,
		Example: `  fieldpost policy lint configs/policies/restricted.json
  aws iot get-policy --policy-name NAME --query policyDocument --output text | fieldpost policy lint -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			p, err := need.Read(c.InOrStdin(), files...)
			if err != nil {
				return err
			}
			findings := p.Lint()
			if asJSON {
				err = writeJSON(c.OutOrStdout(), lintReport(findings))
			} else {
				err = writeFindings(c.OutOrStdout(), findings)
			}
			if err != nil {
				return err
			}
			if n := traps(findings); n > 0 {
				return fmt.Errorf("%d traps in %s", n, strings.Join(files, ", "))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func traps(findings []awsiot.Finding) (n int) {
	for _, f := range findings {
		if f.Severity == awsiot.Trap {
			n++
		}
	}
	return n
}

// finding is one in the output of lint --json.
type finding struct {
	Code      string `json:"code"`
	Severity  string `json:"severity"`
	Policy    string `json:"policy,omitempty"` // the file; with Line
	Statement int    `json:"statement,omitempty"`
	Line      int    `json:"line,omitempty"`
	Text      string `json:"text"`
	Advice    string `json:"advice"`
}

func lintReport(findings []awsiot.Finding) []finding {
	all := []finding{}
	for _, f := range findings {
		s := f.Statement
		all = append(all, finding{f.Code, string(f.Severity), s.Policy, s.Number, s.Line, f.Text, f.Advice})
	}
	return all
}

func writeFindings(w io.Writer, findings []awsiot.Finding) error {
	if len(findings) == 0 {
		_, err := fmt.Fprintln(w, "no trap found")
		return err
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%s\n    %s\n", visible.Text(f.String()), visible.Text(f.Advice)); err != nil {
			return err
		}
	}
	return nil
}
