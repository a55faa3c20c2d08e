package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon/sampler"
	"fieldpost/sensors"
	"fieldpost/sensors/board"

	"github.com/spf13/cobra"
)

func newRead(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "read NAME",
		Short: "read one sensor of the configuration, now",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := load(*file)
			if err != nil {
				return err
			}
			var names []string
			for _, s := range cfg.Sensors {
				if s.Name == args[0] {
					return readSensor(c, s)
				}
				names = append(names, s.Name)
			}
			return usage(c, fmt.Errorf("no sensor %q in %s; it has: %s", args[0], cfg.File, strings.Join(names, ", ")))
		},
	}
}

func readSensor(c *cobra.Command, s sensors.Config) error {
	b, err := board.Open()
	if err != nil {
		return fmt.Errorf("open board: %w", err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	fields, err := sampler.Once(ctx, b, s)
	if err != nil {
		return fmt.Errorf("read %q: %w", s.Name, err)
	}
	chip, _ := sensors.Lookup(s.Chip)
	for i, f := range fields {
		unit := ""
		if i < len(chip.Quantities) {
			unit = chip.Quantities[i].Unit
		}
		fmt.Fprintf(c.OutOrStdout(), "%s %v %s\n", f.Name, f.Value, unit)
	}
	return nil
}
