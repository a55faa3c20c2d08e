package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"

	"github.com/spf13/cobra"
)

// answerTime is how long the daemon may take to answer.
const answerTime = 10 * time.Second

func newStatus() *cobra.Command {
	var asJSON, watched bool
	var every time.Duration
	var socket string
	c := &cobra.Command{
		Use:   "status",
		Short: "show the state of the daemon on this machine",
		Long: `Show the state of the daemon on this machine: the connection to the broker, the
messages that wait, each sensor's last reading, each output's level and what caused
it, and all faults. With --json it prints one JSON object with stable keys.

The exit status is 0 only if the daemon answers and has no fault. You must be in the
group fieldpost to use its socket.

With --watch it prints the state again and again until it is stopped, with --json one
object a line. fieldpost watch shows it live in a terminal.`,
		Example: "  fieldpost status --json | jq .spool.waiting\n  fieldpost status --watch --json | jq --unbuffered .link.connected",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usage(c, errors.New("--every must be 100ms or more"))
			}
			if watched {
				return watchStatus(c.Context(), c, socket, every, asJSON)
			}
			ctx, cancel := context.WithTimeout(c.Context(), answerTime)
			defer cancel()
			r, err := client.AskStatus(ctx, socket)
			if err != nil {
				return err
			}
			return printStatus(c, r, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&watched, "watch", false, "print it again and again")
	c.Flags().DurationVar(&every, "every", time.Second, "time between two prints with --watch")
	socketFlag(c, &socket)
	return c
}

// socketFlag adds the flag that names the daemon's socket.
func socketFlag(c *cobra.Command, socket *string) {
	c.Flags().StringVar(socket, "socket", socketPath(), "`path` of the daemon's socket")
}

// socketPath returns the path of this machine's daemon's socket.
func socketPath() string { return filepath.Join(runtimeDir(), "fieldpost.sock") }

func printStatus(c *cobra.Command, r api.Status, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
	} else if err := client.PrintStatus(c.OutOrStdout(), r); err != nil {
		return err
	}
	wrong := slices.DeleteFunc(slices.Clone(r.Faults), func(f api.Fault) bool { return f.Because != nil })
	switch n := len(wrong); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: %s", wrong[0].Subject, wrong[0].Title)
	default:
		return fmt.Errorf("there are %d faults", n)
	}
}
