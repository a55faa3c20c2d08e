package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/visible"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "development"

// The exit statuses, as those of fieldpost.
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 78
)

func main() { os.Exit(Main()) }

// Main runs the command line of os.Args and returns the exit status. The first SIGINT or
// SIGTERM ends what is under way; the next run goes on from there.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := newRoot()
	return report(root.ErrOrStderr(), root.ExecuteContext(ctx))
}

// report prints err for people and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(w, "fieldpost-provision: %s\n", visible.Lines(err.Error()))
	var e explained
	if errors.As(err, &e) && e.hint != "" {
		fmt.Fprintf(w, "hint: %s\n", e.hint)
	}
	var problems config.Errors
	var wrong usageProblem
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintf(w, "see: fieldpost-provision --help\n")
		return exitUsage
	case errors.As(err, &problems), errors.Is(err, config.ErrUnusable):
		return exitConfig
	}
	return exitFailed
}

// flags are those of the command line.
type flags struct {
	options
	file, profile, region, endpointURL string
	print, undo, yes                   bool
}

// extra holds the commands of a build with tags, such as the one that writes the manual page.
var extra []func() *cobra.Command

// help is what --help and the manual page begin with.
const help = `Register the board of a configuration in AWS IoT Core. It makes what does not exist yet:

- the private key and the certificate request, on this machine (broker.key)
- the thing of the configuration's name
- the policy that the configuration needs, and no more
- the certificate, from the request (broker.certificate)
- the attachments of the policy and of the thing to the certificate
- the file with Amazon's root certificates (broker.ca)

and prints the account's endpoint. Run it on the board or on your own machine, with the
credentials that the AWS CLI uses. The private key never leaves the machine.

It is safe to run again: what exists is kept, and an interrupted run is completed without a
second certificate. provision.json, in the directory of the key, records what was made; keep
it. --undo removes what it lists, and nothing else.

The exit status is 0 on success, 1 on failure, 2 for wrong usage, 78 for a wrong
configuration.`

func newRoot() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "fieldpost-provision",
		Short: "registers a board in AWS IoT Core: thing, policy and certificate",
		Long:  help,
		Example: `  fieldpost-provision -c fieldpost.yaml --write-endpoint
  fieldpost-provision -c fieldpost.yaml --profile greenhouse --region eu-west-1
  fieldpost-provision -c fieldpost.yaml --account 123456789012 --print
  fieldpost-provision -c fieldpost.yaml --undo`,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageProblem{fmt.Errorf("unknown argument %q", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context(), c.OutOrStdout()) },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageProblem{err} })
	c.Flags().SortFlags = false
	c.Flags().StringVarP(&f.file, "config", "c", "", "configuration `file` (default ./fieldpost.yaml, then /etc/fieldpost/fieldpost.yaml)")
	c.Flags().StringVar(&f.profile, "profile", "", "`profile` of the AWS CLI with the credentials")
	c.Flags().StringVar(&f.region, "region", "", "AWS `region` (default: that of the profile or the environment, then the one in broker.endpoint)")
	c.Flags().StringVar(&f.endpointURL, "endpoint-url", "", "`URL` of the service instead of AWS's own")
	c.Flags().StringVar(&f.account, "account", "", "AWS account, twelve `digits`: refuse another; for --print")
	c.Flags().StringVar(&f.policyName, "policy-name", "", "`name` of the policy (default fieldpost-THING; fieldpost with --thing-variables)")
	c.Flags().BoolVar(&f.thingVariables, "thing-variables", false, "one policy for all boards, with ${iot:Connection.Thing.ThingName} instead of the thing's name")
	c.Flags().BoolVar(&f.sender, "send", false, "allow fieldpost send --via mqtt with the same certificate as well")
	c.Flags().StringVar(&f.thingType, "thing-type", "", "an existing `type` for the thing")
	c.Flags().StringToStringVar(&f.attributes, "attribute", nil, "an attribute of the thing, `name=value`; repeatable")
	c.Flags().StringVar(&f.keyType, "key-type", "", "p256 or rsa2048 (default p256, or whatever is there)")
	c.Flags().StringVar(&f.statePath, "state", "", "`file` with what was made (default provision.json in the directory of broker.key)")
	c.Flags().BoolVar(&f.writeEndpoint, "write-endpoint", false, "write the account's endpoint into the configuration")
	c.Flags().BoolVar(&f.print, "print", false, "print AWS CLI commands that do the same; do nothing and ask for nothing")
	c.Flags().BoolVar(&f.undo, "undo", false, "remove what was made; without --yes, only list it")
	c.Flags().BoolVar(&f.yes, "yes", false, "with --undo: do it")
	for _, more := range extra {
		c.AddCommand(more())
	}
	return c
}

// places are the files that are tried when no configuration is named.
var places = []string{"fieldpost.yaml", "/etc/fieldpost/fieldpost.yaml"}

func (f *flags) load() (*config.Config, error) {
	if f.file == "" {
		for _, p := range places {
			if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
				return config.LoadWithoutFiles(p)
			}
		}
		return nil, fmt.Errorf("%w: no ./fieldpost.yaml and no /etc/fieldpost/fieldpost.yaml; name one with -c", config.ErrUnusable)
	}
	return config.LoadWithoutFiles(f.file)
}

func (f *flags) run(ctx context.Context, out io.Writer) error {
	if f.yes && !f.undo {
		return usageProblem{errors.New("--yes goes with --undo")}
	}
	if u, err := url.Parse(f.endpointURL); f.endpointURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return usageProblem{fmt.Errorf("--endpoint-url %q: want https://HOST", f.endpointURL)}
	}
	cfg, err := f.load()
	if err != nil {
		return err
	}
	if err := f.check(cfg); err != nil {
		return err
	}
	a, err := f.aws(ctx, cfg)
	if err != nil {
		return err
	}
	if f.print && !f.undo {
		return f.printCommands(out, cfg, a.Region)
	}
	return f.withState(ctx, cfg, a, out)
}

// withState does what needs the state of what was made.
func (f *flags) withState(ctx context.Context, cfg *config.Config, a aws.Config, out io.Writer) (err error) {
	s, err := openStore(f.statePath, !f.undo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	switch {
	case f.undo && len(s.Made) == 0:
		return fmt.Errorf("nothing to undo: %q names nothing that was made", f.statePath)
	case f.undo && f.print:
		return f.printUndo(out, cfg, s)
	case f.undo && !f.yes:
		listUndo(out, cfg, s)
		return explained{errors.New("nothing was done"), "add --yes to take all of this back"}
	}
	p := newProvisioner(cfg, f.options, a, s, out)
	if f.undo {
		return undoer{p}.undo(ctx)
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	for _, open := range access.Secret(cfg.Broker.Key) {
		fmt.Fprintf(out, "\nwarning: %s\n", open)
	}
	if os.Geteuid() == 0 && slices.Contains(p.pair.Made, cfg.Broker.Key) {
		fmt.Fprintf(out, "\nlet the daemon's user read the key: chgrp fieldpost %s && chmod 0640 %[1]s\n", quoted(filepath.Clean(cfg.Broker.Key)))
	}
	return nil
}

// requestTimeout is how long an answer may take. A test shortens it.
var requestTimeout = time.Minute

// aws reads the AWS CLI's configuration.
func (f *flags) aws(ctx context.Context, cfg *config.Config) (aws.Config, error) {
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(requestTimeout))}
	if f.profile != "" {
		load = append(load, awsconfig.WithSharedConfigProfile(f.profile))
	}
	if f.region != "" {
		load = append(load, awsconfig.WithRegion(f.region))
	}
	if f.endpointURL != "" {
		load = append(load, awsconfig.WithBaseEndpoint(f.endpointURL))
	}
	a, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return a, explained{fmt.Errorf("read the AWS CLI's configuration: %s", visible.Lines(err.Error())), "`aws configure list` shows what it says"}
	}
	if a.Region == "" {
		a.Region = need.Region(cfg)
	}
	if a.Region == "" {
		return a, usageProblem{fmt.Errorf("no region: the AWS CLI's configuration names none, nor does broker.endpoint %q; give it with --region", cfg.Broker.Endpoint)}
	}
	if _, err := need.Prefix(cfg, a.Region, "000000000000"); err != nil {
		return a, usageProblem{err}
	}
	return a, nil
}
