package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon/client"

	"github.com/spf13/cobra"
)

// reloadTime is how long a reload and its answer may take. It is longer than
// all waits for parts that hang.
const reloadTime = 3 * time.Minute

func newReload(file *string) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reload",
		Short: "make the daemon use its changed configuration file",
		Long: `Make the daemon on this machine read its configuration file again, and print what
changed. ` + "`systemctl reload fieldpost`" + ` does the same.

Unchanged parts are left as they are: an output keeps its level, a sensor its schedule,
and the connection stays. A changed thing or spool needs a restart. A configuration with
a mistake is refused as a whole: its problems are printed with their lines, and the
daemon keeps the configuration that it has. ` + "`fieldpost diff`" + ` shows beforehand what a
reload would change.

The exit status is 0 if the daemon uses the new configuration, 78 if it was refused, and
1 otherwise. It is also 1 if a part of the daemon does not use the new configuration yet
because something hangs.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := refuseFile(c, *file); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), reloadTime)
			defer cancel()
			a, err := client.AskReload(ctx, socket)
			if err != nil {
				return err
			}
			if err := client.PrintChanges(c.OutOrStdout(), a, "reloaded", "reloaded; nothing has changed"); err != nil {
				return err
			}
			if a.Slow != nil {
				return fmt.Errorf("the new configuration is in use, but something hangs and these do not use it yet: %s; see `fieldpost status`", strings.Join(a.Slow, ", "))
			}
			return nil
		},
	}
	socketFlag(c, &socket)
	return c
}

func newDiff(file *string) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "diff",
		Short: "show what a reload would change",
		Long: `Compare the configuration file of the daemon on this machine with what the daemon runs,
and print what ` + "`fieldpost reload`" + ` would change. Nothing is changed.

It also says whether the daemon would reconnect. Errors are printed as by reload. The
exit status is 0 if a reload would be accepted, 78 if it would be refused, and 1
otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := refuseFile(c, *file); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), reloadTime)
			defer cancel()
			a, err := client.AskDiff(ctx, socket)
			if err != nil {
				return err
			}
			return client.PrintChanges(c.OutOrStdout(), a, "a reload would change", "a reload would change nothing")
		},
	}
	socketFlag(c, &socket)
	return c
}

// refuseFile refuses -c: the daemon reads the file that it was started with.
func refuseFile(c *cobra.Command, file string) error {
	if file == "" {
		return nil
	}
	return usage(c, errors.New("the daemon reads the file that it was started with; leave out -c"))
}
