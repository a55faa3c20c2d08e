package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"fieldpost/daemon/client"
	"fieldpost/daemon/local"
	"fieldpost/sensors/board"
	"fieldpost/sensors/scan"

	"github.com/spf13/cobra"
)

// scanTime is how long a scan may take.
const scanTime = 2 * time.Minute

func newScan() *cobra.Command {
	var socket string
	var asYAML, asJSON bool
	c := &cobra.Command{
		Use:   "scan",
		Short: "list what this board has: lines, buses, chips, kernel sensors",
		Long: `List what this board has, without changing it:

- GPIO lines and who holds them, on a Raspberry Pi with a picture of the header;
- I2C buses and the chips that answer on them;
- sensors of kernel drivers, with the line of config.txt that loads each driver;
- SPI devices and serial ports.

A chip that identifies itself is named. For any other, the chips that use its address
are listed. Addresses of I/O expanders and memories are never written to. Addresses
that a kernel driver owns, or that a running daemon reads, are skipped. You need not
be root, but must be in the groups i2c and gpio.

--yaml prints a configuration that reads everything that was recognised:

  fieldpost scan --yaml >fieldpost.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asYAML && asJSON {
				return usage(c, errors.New("--yaml and --json exclude each other"))
			}
			ctx, cancel := context.WithTimeout(c.Context(), scanTime)
			defer cancel()
			b, err := board.Open()
			if err != nil {
				return fmt.Errorf("open board: %w", err)
			}
			r := scanBoard(ctx, b, socket)
			switch {
			case asYAML:
				return r.WriteYAML(c.OutOrStdout(), thingName())
			case asJSON:
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			return r.Print(c.OutOrStdout())
		},
	}
	socketFlag(c, &socket)
	c.Flags().BoolVar(&asYAML, "yaml", false, "print a configuration that reads what was found")
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return c
}

// scanBoard scans a board, except for what the daemon on the socket reads.
func scanBoard(ctx context.Context, b board.Board, socket string) scan.Report {
	return scan.Scan(ctx, b, inUse(ctx, socket))
}

// inUse asks the daemon on this machine what it reads. If a daemon runs and
// does not say, no bus is probed.
func inUse(ctx context.Context, socket string) (o scan.Options) {
	if !local.Supported {
		return o
	}
	status, err := client.AskStatus(ctx, socket)
	switch {
	case errors.Is(err, local.ErrNotRunning):
		return o
	case err != nil:
		o.Leave = fmt.Sprintf("is not probed, because a running daemon may use it and does not say what it uses: %v. Stop the daemon, or join the group fieldpost", err)
		return o
	}
	for _, s := range status.Sensors {
		if s.Bus != "" {
			o.Used = append(o.Used, scan.Use{Sensor: s.Name, Chip: s.Chip, Bus: s.Bus, Address: uint16(s.Address)})
		}
	}
	return o
}

var notInThings = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^A-Za-z0-9_-]+`) })

// thingName returns this machine's host name without what a thing's name must
// not have.
func thingName() string {
	host, _ := os.Hostname() // without a host name the result is ""
	host = notInThings().ReplaceAllString(host, "-")
	if host == "" {
		return "thing-1"
	}
	return host[:min(len(host), 64)]
}
