// Command fieldpost-hw runs on the board for the checks of deploy/hw, which test fieldpost
// on real hardware. There each output line is joined to an input line by a jumper wire, so
// that a program that is not fieldpost sees what the output really does.
//
//	fieldpost-hw wires GPIO22=GPIO27 GPIO23=GPIO24    are the wires there, and nothing else?
//	fieldpost-hw record GPIO22=GPIO27,up              write down each edge, until SIGTERM
//	fieldpost-hw rest GPIO22 GPIO27                   make inputs of lines, as after power-on
//	fieldpost-hw now                                  print the time that edges have
//	fieldpost-hw clock                                is the clock synchronised?
//
// It is a program of its own, and in no package, because nobody else needs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fieldpost/daemon/systemd"
	"fieldpost/sensors/board"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{Use: "fieldpost-hw", Short: "the lines of a board, for the checks of deploy/hw", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newWires(), newRecord(), newRest(), newNow(), newClock())
	return root
}

func newWires() *cobra.Command {
	var settle time.Duration
	c := &cobra.Command{
		Use:   "wires OUT=IN...",
		Short: "check that each wire is there and that nothing else is on its lines",
		Long: `Check that nobody holds the lines, that nothing but the wires is connected to them, and
that each input follows its output. Nothing is driven before every line has followed its
own pull resistors both ways, and only one line is driven at a time.

It prints keeps=yes if the kernel keeps the level of a line that is released, as a
Raspberry Pi's own kernel does, and keeps=no if it gives the line back to its pull.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			wires, b, err := openWires(args)
			if err != nil {
				return err
			}
			keeps, err := (&prober{board: b, settle: settle}).examine(c.Context(), wires)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "keeps=%s\n", map[bool]string{true: "yes", false: "no"}[keeps])
			return nil
		},
	}
	c.Flags().DurationVar(&settle, "settle", 200*time.Millisecond, "how long a level takes to get through a wire, at most")
	return c
}

func newRecord() *cobra.Command {
	return &cobra.Command{
		Use:   "record OUT=IN,up|down...",
		Short: "print the edges of the wires until SIGTERM",
		Long: `Print the level of each wire, and then each edge with the kernel's time, in milliseconds of
CLOCK_MONOTONIC and with the number of the output's line:

  8123.482 line 22 1
  8201.377 level 22 0 wire

A wire that nobody drives has the level of its pull, which is set at both ends, at the
output's only while nobody holds it. Edges that the kernel dropped are "lost".`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			wires, b, err := openWires(args)
			if err != nil {
				return err
			}
			return (&recorder{board: b, now: monotonic, ready: ready, to: c.OutOrStdout()}).run(c.Context(), wires)
		},
	}
}

// ready tells systemd, if it has started the recorder, that no edge is missed from now on.
func ready() error { return (&systemd.Notifier{}).Ready("recording") }

func newRest() *cobra.Command {
	return &cobra.Command{
		Use:   "rest LINE...",
		Short: "make inputs of lines, with the pulls that a Raspberry Pi gives them at power-on",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := board.Open()
			if err != nil {
				return fmt.Errorf("open board: %w", err)
			}
			var failed []error
			for _, line := range args {
				failed = append(failed, release(b, line, powerOnPull(line)))
			}
			return errors.Join(failed...)
		},
	}
}

func newNow() *cobra.Command {
	return &cobra.Command{
		Use:   "now",
		Short: "print CLOCK_MONOTONIC in milliseconds",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			now, err := monotonic()
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), milliseconds(now))
			return nil
		},
	}
}

func newClock() *cobra.Command {
	return &cobra.Command{
		Use:   "clock",
		Short: "fail unless the kernel says that the clock is synchronised",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			synced, err := synchronised()
			if err == nil && !synced {
				err = errors.New("the clock is not synchronised")
			}
			return err
		},
	}
}

func openWires(args []string) ([]wire, board.Board, error) {
	wires, err := parseWires(args)
	if err != nil {
		return nil, nil, err
	}
	b, err := board.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open board: %w", err)
	}
	return wires, b, nil
}

// A wire joins an output line to an input line.
type wire struct {
	out, in string
	number  int        // GPIO number of out
	pull    board.Pull // the level of the wire while nobody drives it
}

// parseWires parses GPIO22=GPIO27 and GPIO22=GPIO27,up.
func parseWires(args []string) ([]wire, error) {
	var wires []wire
	used := map[int]string{}
	for _, arg := range args {
		lines, pull, _ := strings.Cut(arg, ",")
		out, in, ok := strings.Cut(lines, "=")
		if !ok {
			return nil, fmt.Errorf("wire %q: want OUT=IN or OUT=IN,up|down, such as GPIO22=GPIO27,up", arg)
		}
		w := wire{out: out, in: in}
		if pull != "" {
			if err := w.pull.UnmarshalText([]byte(pull)); err != nil {
				return nil, fmt.Errorf("wire %q: pull %q: %w", arg, pull, err)
			}
		}
		for _, name := range []string{in, out} {
			l, err := board.ParseLine(name)
			if err != nil {
				return nil, fmt.Errorf("wire %q: %w", arg, err)
			}
			if l.GPIO < 0 {
				return nil, fmt.Errorf("wire %q: %q has no GPIO number; want GPIO0 to GPIO27", arg, name)
			}
			if other, twice := used[l.GPIO]; twice {
				return nil, fmt.Errorf("wire %q: %s is on the wire %q too", arg, name, other)
			}
			used[l.GPIO], w.number = arg, l.GPIO
		}
		wires = append(wires, w)
	}
	return wires, nil
}

// milliseconds prints a time with the microseconds behind the point.
func milliseconds(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d)/1e6) }
