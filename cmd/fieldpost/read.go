package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/local"
	"fieldpost/sensors/board"

	"github.com/spf13/cobra"
)

// readingTime is how long a reading may take.
const readingTime = 35 * time.Second

func newRead(file *string) *cobra.Command {
	var socket string
	var watch bool
	var every time.Duration
	c := &cobra.Command{
		Use:   "read NAME",
		Short: "read one sensor now, or again and again",
		Long: `Read one sensor now and print its values.

If a daemon runs on this machine, it reads the sensor, because it owns the hardware.
That reading does not change the sensor's schedule and is not published. If no daemon
runs, this command reads the sensor itself, as configured. It needs no broker, and
no certificates.

--watch reads it until Ctrl-C, one line each time, also while it fails: move the wires
and see.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if every <= 0 {
				return usage(c, errors.New("--every wants more than zero"))
			}
			if watch {
				return client.Watch(c.Context(), c.OutOrStdout(), every, func(ctx context.Context) (api.Reading, error) {
					return read(ctx, *file, socket, args[0])
				})
			}
			r, err := read(c.Context(), *file, socket, args[0])
			if err != nil {
				return err
			}
			return client.PrintReading(c.OutOrStdout(), r)
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "read until Ctrl-C")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "the pause between two readings of --watch")
	socketFlag(c, &socket)
	return c
}

// read asks the daemon for a reading, or reads the sensor itself if no daemon
// runs.
func read(ctx context.Context, file, socket, name string) (api.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readingTime)
	defer cancel()
	if local.Supported {
		thing, err := thingOf(file)
		if err != nil {
			return api.Reading{}, err
		}
		r, err := client.AskRead(ctx, socket, thing, name)
		if !errors.Is(err, local.ErrNotRunning) {
			return r, err
		}
	}
	cfg, err := loadWithoutFiles(file)
	if err != nil {
		return api.Reading{}, err
	}
	var names []string
	for _, s := range cfg.Sensors {
		if s.Name == name {
			b, err := board.Open()
			if err != nil {
				return api.Reading{}, fmt.Errorf("open board: %w", err)
			}
			return client.ReadHere(ctx, cfg, b, s)
		}
		names = append(names, s.Name)
	}
	return api.Reading{}, usageError{fmt.Errorf("no sensor %q in %s; it has: %s\nsee: fieldpost read --help", name, cfg.File, strings.Join(names, ", "))}
}
