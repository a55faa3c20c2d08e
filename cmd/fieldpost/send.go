package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/config"

	"github.com/spf13/cobra"
)

func newSend(file *string) *cobra.Command {
	r := daemon.OrderRequest{}
	var wait time.Duration
	c := &cobra.Command{
		Use:   "send OUTPUT on|off|toggle|pulse",
		Short: "send an order to an output, through the broker",
		Long: `Send an order to an output through the broker, stamped with an id and an expiry.
With --wait the answer is awaited and printed, and the exit status is 0 only if
the order was done.`,
		Example: "  fieldpost send pump on --for 30s --wait 10s",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := load(*file)
			if err != nil {
				return err
			}
			r.Output, r.Action = args[0], args[1]
			if err := examine(cfg, r, wait); err != nil {
				return usage(c, err)
			}
			return send(c, cfg, r, wait)
		},
	}
	c.Flags().DurationVar(&r.For, "for", 0, "how long the level is held")
	c.Flags().DurationVar(&r.Life, "life", time.Minute, "how long the order is valid")
	c.Flags().DurationVar(&wait, "wait", 0, "how long to wait for the answer; 0 sends only")
	return c
}

// examine finds mistakes that need no broker to be found.
func examine(cfg *config.Config, r daemon.OrderRequest, wait time.Duration) error {
	var names []string
	known := false
	for _, o := range cfg.Outputs {
		known = known || o.Name == r.Output
		names = append(names, o.Name)
	}
	switch {
	case !known:
		return fmt.Errorf("no output %q in %s; it has: %s", r.Output, cfg.File, strings.Join(names, ", "))
	case r.Action != "on" && r.Action != "off" && r.Action != "toggle" && r.Action != "pulse":
		return fmt.Errorf("no action %q: want on, off, toggle or pulse", r.Action)
	case r.For < 0 || wait < 0 || r.Life <= 0:
		return errors.New("--for and --wait must not be negative, --life must be more than 0")
	case r.Life > cfg.Commands.MaxLife:
		return fmt.Errorf("--life %v is more than commands.max_life %v", r.Life, cfg.Commands.MaxLife)
	}
	return nil
}

func send(c *cobra.Command, cfg *config.Config, r daemon.OrderRequest, wait time.Duration) error {
	tail := make([]byte, 2)
	rand.Read(tail) // never fails
	a, id, err := daemon.SendOrder(c.Context(), cfg, cfg.Broker.ClientID+"-send-"+hex.EncodeToString(tail), r, wait, quietLog(c))
	switch {
	case errors.Is(err, context.Canceled) && id == "":
		return errors.New("interrupted; nothing was sent")
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted; order %s may have been sent", id)
	case err != nil:
		return err
	case wait == 0:
		fmt.Fprintf(c.OutOrStdout(), "sent %s\n", id)
		return nil
	}
	fmt.Fprintf(c.OutOrStdout(), "%s %s\n", id, a)
	if a.Status != "done" {
		return fmt.Errorf("order %s was not done", id)
	}
	return nil
}
