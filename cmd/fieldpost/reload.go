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

// reloadTime is how long a reload may take, and its answer: more than all that may hang.
const reloadTime = 3 * time.Minute

func newReload(file *string) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reload",
		Short: "make the daemon use its changed configuration file",
		Long: `Make the daemon on this machine read its configuration file again, and print what that
has changed. ` + "`systemctl reload fieldpost`" + ` does the same.

What has not changed is not touched: an output keeps its level, a sensor its schedule,
and the connection stays. A changed thing or spool needs a restart. A configuration that
is wrong is refused as a whole: the problems are printed with their lines, and the daemon
goes on with the configuration that it has. ` + "`fieldpost diff`" + ` says beforehand what a
reload would change.

The exit status is 0 if the daemon uses the new configuration, 78 if it was refused, and
1 otherwise, also where a part of the daemon does not use it yet because something hangs.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := daemonsOwnFile(c, *file); err != nil {
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
				return fmt.Errorf("the new configuration holds, but these do not use it yet because something hangs: %s; see `fieldpost status`", strings.Join(a.Slow, ", "))
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

It also says whether the connection would be made anew. What would be refused is printed
as by reload. The exit status is 0 if a reload would be accepted, 78 if it would be
refused, and 1 otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := daemonsOwnFile(c, *file); err != nil {
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

// daemonsOwnFile refuses -c: the daemon reads the file that it was started with.
func daemonsOwnFile(c *cobra.Command, file string) error {
	if file == "" {
		return nil
	}
	return usage(c, errors.New("the daemon reads the file that it was started with; leave out -c"))
}
