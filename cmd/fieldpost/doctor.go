package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/doctor"
	"fieldpost/daemon/spool"

	"github.com/spf13/cobra"
)

func newDoctor(file *string) *cobra.Command {
	var o doctor.Options
	var socket string
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "find out what keeps the daemon from its broker, step by step",
		Long: `Do all that check does, then go to the broker step by step as the daemon would: the
name, the ports, TLS, the client id, the will, the session, each subscription, a
message to each topic and back. Each step is printed with a tick or a cross and the
time it took. A cross comes with its meaning and what to do. If the broker closed the
connection without a reason, the meaning is a conclusion, and the step says so. Failed
steps are repeated over MQTT 5, if the broker speaks it, because it gives its reason
there.

The doctor publishes one JSON message with "kind":"probe" to each topic that the
daemon publishes to; --no-publish prevents that. It does not receive orders that wait
in the session.

While the daemon runs, the doctor does not use its client id, because the broker would
close the daemon's connection. It connects under another one that --policy allows, or
under CLIENT-ID-send-doctor, and says so.

The exit status is 0 if no step failed, and 1 otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(*file)
			if err != nil {
				return err
			}
			o.Config = cfg
			return examine(c, o, socket, asJSON)
		},
	}
	c.Flags().StringArrayVar(&o.Policies, "policy", nil, "`file` of an AWS IoT policy that is attached to the certificate; may be repeated")
	c.Flags().StringVar(&o.ClientID, "client-id", "", "MQTT client `id` to connect as (default: the configuration's, or another one while the daemon runs)")
	c.Flags().BoolVar(&o.Idle, "idle", false, "also keep a connection idle for a minute, with only the keep-alive")
	c.Flags().BoolVar(&o.Retained, "retained", false, "also publish a retained message, and delete it again")
	c.Flags().BoolVar(&o.NoPublish, "no-publish", false, "publish nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object at the end")
	socketFlag(c, &socket)
	return c
}

// examine runs the doctor and prints its steps. It returns an error if one failed.
func examine(c *cobra.Command, o doctor.Options, socket string, asJSON bool) (err error) {
	out := c.OutOrStdout()
	o.Now = time.Now()
	o.Machine, _ = thisMachine(c.Context()) // without a board that step says so
	if o.Running, err = running(c.Context(), o.Config, socket); err != nil {
		return err
	}
	if o.Running != nil && o.ClientID == o.Running.ClientID {
		return usage(c, fmt.Errorf("--client-id %q: the running daemon is connected with it", o.ClientID))
	}
	if !asJSON {
		o.Observe = func(s doctor.Step) { s.Write(out) }
	}
	r, err := doctor.Examine(c.Context(), o)
	if err != nil {
		return err
	}
	if asJSON {
		if err := r.WriteJSON(out); err != nil {
			return err
		}
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d steps failed", r.Failed, len(r.Steps))
	}
	return nil
}

// running returns what is known of the daemon that runs with this
// configuration, or nil.
func running(ctx context.Context, cfg *config.Config, socket string) (*doctor.Running, error) {
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := client.AskStatus(asked, socket)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil && (s.Thing == cfg.Thing || s.Link.ClientID == cfg.Broker.ClientID) {
		r := &doctor.Running{Connected: s.Link.Connected, ClientID: s.Link.ClientID}
		if last := s.Link.LastError; last != nil && !last.Over {
			r.Fault, r.Detail = last.Code, last.Text
		}
		return r, nil
	}
	var locked *spool.LockedError
	if err := spool.InUse(cfg.Spool.Dir); errors.As(err, &locked) { // a daemon runs, but does not answer
		return &doctor.Running{ClientID: cfg.Broker.ClientID}, nil
	}
	return nil, nil
}
