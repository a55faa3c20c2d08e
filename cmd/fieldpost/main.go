// Command fieldpost delivers readings from a board's sensors to an MQTT broker, and
// carries out orders from the broker on the board's pins.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"fieldpost/daemon/api"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/uplink"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "development"

// The exit statuses. 78 is EX_CONFIG of sysexits(3).
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 78
)

func main() { os.Exit(Main()) }

// Main runs the command line of os.Args and returns the exit status.
func Main() int {
	ctx, stop := signalContext()
	defer stop()
	root := newRoot()
	err := root.ExecuteContext(ctx)
	return report(root.ErrOrStderr(), err)
}

// signalContext returns a context that the first SIGINT, SIGTERM or SIGHUP ends. The
// second signal ends the process at once. SIGHUP means that the terminal was closed,
// which must not leave a pump on. Under nohup it is ignored.
func signalContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitFailed)
	}()
	return ctx, cancel
}

// newRoot builds the command tree.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "fieldpost",
		Short:         "delivers a board's sensor readings to an MQTT broker, and carries out orders on its pins",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	var file string
	root.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration `file` (default ./fieldpost.yaml, then /etc/fieldpost/fieldpost.yaml)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, err) })
	root.AddCommand(
		newRun(&file), newDemo(), newRehearse(&file), newCheck(&file), newDoctor(&file), newScan(), newRead(&file), newSend(&file), newStatus(), newWatch(), newPage(&file), newExport(), newReconnect(&file), newReload(&file), newDiff(&file), newSafe(),
		newPub(&file), newSub(&file), newBroker(), newPolicy(&file), newCerts(&file), newSchema(), newVersion(),
	)
	for _, c := range extra {
		root.AddCommand(c())
	}
	for _, c := range append(root.Commands(), root) {
		c.Args = usageArgs(c.Args)
		for _, sub := range c.Commands() {
			if c != root {
				sub.Args = usageArgs(sub.Args)
			}
		}
	}
	return root
}

// extra holds the commands of a build with tags, such as the one that writes the
// manual pages.
var extra []func() *cobra.Command

// usageError is a mistake on the command line: exit status 2.
type usageError struct{ error }

func usage(c *cobra.Command, err error) error {
	return usageError{fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
}

// usageArgs turns a command's argument errors into usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(c, args); err != nil {
			return usage(c, err)
		}
		return nil
	}
}

// loggedError is an error that has been logged.
type loggedError struct{ error }

// Unwrap returns the error itself.
func (e loggedError) Unwrap() error { return e.error }

// report prints err for people and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var said loggedError
	if errors.As(err, &said) {
		w = io.Discard // the log already has it, with its priority
	}
	fmt.Fprintf(w, "fieldpost: %v\n", err)
	var explained *uplink.Explained
	if errors.As(err, &explained) && explained.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", explained.Hint)
	}
	var refused *client.Refused
	if errors.As(err, &refused) {
		fmt.Fprintln(w, "on AWS IoT Core, a policy of the certificate needs:")
		for _, statement := range refused.Statements {
			fmt.Fprintf(w, "  %s\n", statement)
		}
	}
	var answered *api.Error
	if errors.As(err, &answered) && answered.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", answered.Hint)
	}
	var problems config.Errors
	var mistakes awsiot.Errors
	var wrong usageError
	switch {
	case errors.As(err, &wrong):
		return exitUsage
	case errors.As(err, &problems), errors.As(err, &mistakes), errors.Is(err, config.ErrUnusable):
		return exitConfig
	}
	return exitFailed
}

// places are the files to try when -c is not given.
var places = []string{"fieldpost.yaml", "/etc/fieldpost/fieldpost.yaml"}

// load reads the configuration in file, or without one the first of places that
// exists.
func load(file string) (*config.Config, error) {
	path, err := find(file)
	if err != nil {
		return nil, err
	}
	return config.Load(path)
}

// find returns file, or without one the first of places that exists.
func find(file string) (string, error) {
	if file != "" {
		return file, nil
	}
	for _, p := range places {
		if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: no ./fieldpost.yaml and no /etc/fieldpost/fieldpost.yaml; name one with -c", config.ErrUnusable)
}

// thingOf returns the thing that a command to the daemon is for; "" means this
// machine's. It reads the configuration that was named or is in the current
// directory. It does not read the one in /etc: that one is this machine's
// anyway, and a mistake in it must not prevent switching an output off. Nor do
// certificates that are not there: the daemon has its own.
func thingOf(file string) (string, error) {
	if file == "" {
		if _, err := os.Stat(places[0]); err != nil {
			return "", nil // also if this user may not read it
		}
		file = places[0]
	}
	cfg, err := config.LoadWithoutFiles(file)
	if err != nil {
		return "", err
	}
	return cfg.Thing, nil
}
