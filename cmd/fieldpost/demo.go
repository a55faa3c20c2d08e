package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/systemd"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	var o daemon.DemoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "show the whole thing on this machine: no hardware, no account",
		Long: `Show the whole thing on any machine: a simulated board, the embedded broker with
mutual TLS and the AWS IoT tutorial's restricted policy, readings as they are
acknowledged, and an order every few seconds with its answer. Everything is on
the tutorial's one topic, test/topic.

With --for it ends by itself with a line of counts; the exit status is 0 only
if every reading was acknowledged and every order answered.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.For < 0 || o.Orders <= 0 {
				return usage(c, errors.New("--for must be 0 or more and --orders more than 0"))
			}
			if o.Dir == "" {
				cache, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("find a place for the demo's files: %w; name one with --dir", err)
				}
				o.Dir = filepath.Join(cache, "fieldpost", "demo")
			}
			o.Out, o.Version = c.OutOrStdout(), version
			o.Log = systemd.NewLogger(c.ErrOrStderr(), slog.LevelWarn)
			return daemon.Demo(c.Context(), o)
		},
	}
	c.Flags().DurationVar(&o.For, "for", 0, "end after so long; 0 at Ctrl-C")
	c.Flags().DurationVar(&o.Orders, "orders", 3*time.Second, "time from one order to the next")
	c.Flags().StringVar(&o.Dir, "dir", "", "`directory` for certificates, configuration and spool (default: in the user's cache)")
	return c
}
