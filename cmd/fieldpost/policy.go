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
		Long: `Work with AWS IoT policies. This needs no account and sends nothing to AWS. The
answers follow AWS's documentation. An answer that depends on a rule the documentation
does not state says so.`,
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

// arnFlags set the beginning of all ARNs.
type arnFlags struct{ region, account, prefix string }

func (a *arnFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&a.region, "region", "", "AWS `region` (default: the one in broker.endpoint)")
	c.Flags().StringVar(&a.account, "account", "", "AWS account, twelve `digits`")
	c.Flags().StringVar(&a.prefix, "arn-prefix", "", "beginning of every ARN, instead of --region and --account: `arn:aws:iot:REGION:ACCOUNT`")
}

// text returns the beginning of ARNs. It is "" if no flag is given and must is
// false.
func (a *arnFlags) text(cfg *config.Config, must bool) (string, error) {
	switch {
	case a.prefix != "" && (a.region != "" || a.account != ""):
		return "", errors.New("--arn-prefix contains region and account; use either it, or --region and --account")
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
	part, claim := 0, false
	c := &cobra.Command{
		Use:   "generate",
		Short: "print the smallest policy that this configuration needs",
		Long: `Print the AWS IoT policy that allows what the daemon does with this configuration, and
nothing else: to connect as its client id with its session and will, to publish to its
topics, to subscribe to and receive orders.

With --thing-variables AWS IoT Core inserts the thing's name, so that one policy fits
all boards with the same scheme of topics. The client id must then be the thing's
name, and the certificate must be attached to the thing.

With broker.provisioning it also allows what a renewal of the certificate needs. --claim
prints the policy of the claim certificate instead, which allows that and nothing else.
The one in AWS's developer guide does not allow it: it is for keys that AWS makes.

A policy has at most 2048 characters. If the configuration needs more, --part N prints
the N-th of several policies. Attach all of them.`,
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
			docs, err := generate(cfg, o, claim)
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
	c.Flags().BoolVar(&o.ThingVariables, "thing-variables", false, "use ${iot:Connection.Thing.ThingName} instead of the thing's name")
	c.Flags().BoolVar(&o.Sender, "send", false, "also allow fieldpost send --via mqtt with the same certificate")
	c.Flags().BoolVar(&claim, "claim", false, "print the policy of the claim certificate (broker.provisioning)")
	c.Flags().IntVar(&part, "part", 0, "which of several policies to print, from 1")
	return c
}

// registry holds facts about the connection that are not in the configuration.
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

// generate makes the policies of the board's certificate, or that of the claim certificate.
func generate(cfg *config.Config, o need.Options, claim bool) ([][]byte, error) {
	if !claim {
		return need.Generate(cfg, o)
	}
	if o.Sender || o.ThingVariables {
		return nil, errors.New("--claim goes with neither --send nor --thing-variables")
	}
	doc, err := need.GenerateClaim(cfg, o.Prefix)
	return [][]byte{doc}, err
}

func newPolicySimulate(file *string) *cobra.Command {
	var arns arnFlags
	var r registry
	var asJSON, sender bool
	c := &cobra.Command{
		Use:   "simulate POLICY...",
		Short: "check whether policies allow what this configuration needs",
		Long: `Say for each action whether AWS IoT Core would allow what the daemon does with this
configuration, and by which statement, or why not. Also list what the policies allow
beyond that. Several files are policies that are attached to the same certificate, and
the name - is standard input.

The command assumes that a thing with the configuration's name is registered and that
the certificate is attached to it. It compares region and account only if --account or
--arn-prefix is given.

The exit status is 0 if everything is allowed, 1 if something is denied, 78 if the
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
				return fmt.Errorf("%d of %d needed actions are denied", report.Denied, len(report.Needs))
			}
			return nil
		},
	}
	arns.add(c)
	r.add(c)
	c.Flags().BoolVar(&sender, "send", false, "also check what fieldpost send --via mqtt needs")
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
		Short: "find the traps in policies",
		Long: `Find what a policy does unexpectedly: a Deny that a wider subscription bypasses, a
client id that is a wildcard, a condition that is true when its key is absent, a topic
where a topic filter is needed. Several files are policies that are attached to the
same certificate, and the name - is standard input.

The exit status is 0 if there are at most notes, 1 if there is a trap, 78 if a policy
cannot be read.`,
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

// finding is one finding in the output of lint --json.
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
