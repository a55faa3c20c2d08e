package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/output"

	"github.com/spf13/cobra"
)

// The ways to send an order.
const (
	viaAny   = "any"
	viaLocal = "local"
	viaMQTT  = "mqtt"
)

// sending is an order and how to send it.
type sending struct {
	order  client.OrderRequest
	wait   time.Duration
	via    string
	socket string
	file   string // the configuration that was named; "" if none was
}

func newSend(file *string) *cobra.Command {
	var s sending
	c := &cobra.Command{
		Use:   "send OUTPUT on|off|toggle|pulse|LEVEL%",
		Short: "send an order to an output and print its answer",
		Long: `Send an order to an output, with an id and an expiry, and print its answer.

If a daemon runs on this machine, the order goes through its socket, otherwise through
the broker. Use --via local or --via mqtt to choose. The daemon treats both the same
and records who sent the order. The configuration that is named with -c, or is in the
current directory, says which board the order is for; an order for another board goes
through the broker.

Through the broker the order goes over MQTT 5, with its expiry as the message's: the broker
then deletes it if the board has not fetched it in time. If the broker does not speak
MQTT 5, the order goes over MQTT 3.1.1 and only the board checks the expiry.

The exit status is 0 only if the order was carried out. It is 1 if the order was
refused, if it failed, or if no answer came. Without an answer it is unknown whether
the order was carried out; fieldpost status shows the output's state.`,
		Example: `  fieldpost send pump on --for 30s
  fieldpost send fan 40%
  fieldpost send -c greenhouse.yaml --via mqtt pump off`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			s.order.Output, s.order.Action, s.file = args[0], args[1], *file
			if err := s.validate(); err != nil {
				return usage(c, err)
			}
			return s.send(c)
		},
	}
	c.Flags().DurationVar(&s.order.For, "for", 0, "how long to keep the level")
	c.Flags().DurationVar(&s.order.Life, "life", time.Minute, "how long the order is valid")
	c.Flags().DurationVar(&s.wait, "wait", 10*time.Second, "how long to wait for the answer; 0 waits only for the broker's acknowledgement")
	c.Flags().StringVar(&s.via, "via", viaAny, "how to send it: any, local or mqtt")
	socketFlag(c, &s.socket)
	return c
}

// validate finds mistakes for which no configuration is needed.
func (s *sending) validate() error {
	switch {
	case s.order.Action == string(output.ActionSet):
		return errors.New(`action "set" needs a level: write the level alone, such as 40%`)
	case strings.HasSuffix(s.order.Action, "%"):
		var level output.Level
		if err := level.UnmarshalText([]byte(s.order.Action)); err != nil {
			return fmt.Errorf("level %q: want a percentage from 0%% to 100%% with at most two decimals", s.order.Action)
		}
		s.order.Action, s.order.Level = string(output.ActionSet), level.Percent()
	}
	o := s.order
	switch {
	case o.Action != string(output.ActionSet) && o.Action != "on" && o.Action != "off" && o.Action != "toggle" && o.Action != "pulse":
		return fmt.Errorf("unknown action %q: want on, off, toggle or pulse, or a level such as 40%%", o.Action)
	case o.For < 0 || s.wait < 0 || o.Life <= 0:
		return errors.New("--for and --wait must not be negative, --life must be more than 0")
	case s.via != viaAny && s.via != viaLocal && s.via != viaMQTT:
		return fmt.Errorf("--via %q: want any, local or mqtt", s.via)
	case s.via == viaLocal && s.wait == 0:
		return errors.New("--via local needs a --wait of more than 0")
	}
	if s.via == viaAny && (s.wait == 0 || !local.Supported) {
		s.via = viaMQTT
	}
	return nil
}

// send sends the order through the socket or the broker.
func (s *sending) send(c *cobra.Command) error {
	if s.via != viaMQTT {
		thing, err := thingOf(s.file)
		if err != nil {
			return err
		}
		err = s.local(c, thing)
		if s.via == viaLocal || !errors.Is(err, local.ErrNotRunning) && !errors.Is(err, client.ErrNotOurs) {
			return err
		}
	}
	cfg, err := load(s.file)
	if err != nil {
		return err
	}
	if err := s.validateWith(cfg); err != nil {
		return usage(c, err)
	}
	return s.mqtt(c, cfg)
}

// local sends the order through the daemon's socket.
func (s *sending) local(c *cobra.Command, thing string) error {
	ctx, cancel := context.WithTimeout(c.Context(), s.wait)
	defer cancel()
	a, err := client.AskOrder(ctx, s.socket, thing, s.order)
	switch {
	case errors.Is(err, context.Canceled) && a.Status == "":
		return errors.New("interrupted; nothing was sent")
	case errors.Is(err, local.ErrNoAnswer):
		fmt.Fprintf(c.OutOrStdout(), "%s %s\n", a.ID, client.AnswerText(a))
		return fmt.Errorf("%s; whether it was carried out is unknown, see `fieldpost status`", s.noAnswer(err, a.ID))
	case err != nil:
		return err
	}
	return s.answer(c, a)
}

// noAnswer says why there is no answer.
func (s *sending) noAnswer(err error, id string) string {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Sprintf("interrupted while order %s was under way", id)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer to order %s within %v", id, s.wait)
	}
	return fmt.Sprintf("the daemon stopped before it answered order %s", id)
}

// validateWith finds mistakes for which the configuration is needed.
func (s *sending) validateWith(cfg *config.Config) error {
	var names []string
	known := false
	for _, o := range cfg.Outputs {
		known = known || o.Name == s.order.Output
		names = append(names, o.Name)
	}
	switch {
	case !known:
		return fmt.Errorf("no output %q in %s; it has: %s", s.order.Output, cfg.File, strings.Join(names, ", "))
	case s.order.Life > cfg.Commands.MaxLife:
		return fmt.Errorf("--life %v is more than commands.max_life %v", s.order.Life, cfg.Commands.MaxLife)
	}
	return nil
}

// mqtt sends the order through the broker.
func (s *sending) mqtt(c *cobra.Command, cfg *config.Config) error {
	a, id, err := client.SendOrder(c.Context(), cfg, sendID(cfg.Broker.ClientID), s.order, s.wait, quietLog(c))
	switch {
	case errors.Is(err, context.Canceled) && id == "":
		return errors.New("interrupted; nothing was sent")
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted; order %s may have been sent", id)
	case err != nil:
		return err
	case s.wait == 0:
		fmt.Fprintf(c.OutOrStdout(), "sent %s\n", id)
		return nil
	}
	return s.answer(c, a)
}

// sendID returns a client id that begins with the daemon's, so that a policy
// with a trailing wildcard allows it. It has at most 128 bytes, the limit of
// AWS IoT Core.
func sendID(id string) string {
	const most = 128
	tail := make([]byte, 2)
	rand.Read(tail) // never fails
	end := "-send-" + hex.EncodeToString(tail)
	cut := min(len(id), most-len(end))
	for cut > 0 && cut < len(id) && !utf8.RuneStart(id[cut]) {
		cut--
	}
	return id[:cut] + end
}

// answer prints an answer. It returns an error if the order was not carried
// out.
func (s *sending) answer(c *cobra.Command, a api.OrderAnswer) error {
	fmt.Fprintf(c.OutOrStdout(), "%s %s\n", a.ID, client.AnswerText(a))
	if a.Status != "done" {
		return fmt.Errorf("order %s was not carried out", a.ID)
	}
	return nil
}
