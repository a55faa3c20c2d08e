package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/local"
	"fieldpost/daemon/task"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newWatch() *cobra.Command {
	var w watching
	var colour bool
	c := &cobra.Command{
		Use:   "watch",
		Short: "show the daemon on this machine live, and send orders by keys",
		Long: `Show the state of the daemon on this machine in the terminal, live: faults with what to
do about them, outputs, and each sensor's values with a plot of the last ones.

The up and down keys choose an output; o, f and t ask whether to switch it on, switch
it off or toggle it, and y sends that order. It goes the way of every order: the daemon
checks it and records who sent it. q ends the view.

Only what has changed is sent to the terminal, so it works over a slow connection. For
a pipe or a file use fieldpost status --watch.`,
		Example: "  fieldpost watch\n  ssh -t pi fieldpost watch",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if w.every < 100*time.Millisecond {
				return usage(c, errors.New("--every must be 100ms or more"))
			}
			w.style = client.Style{Color: colour && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", Unicode: speaksUTF8()}
			return w.run(c.Context())
		},
	}
	c.Flags().DurationVar(&w.every, "every", time.Second, "how often to ask the daemon")
	c.Flags().BoolVar(&colour, "color", true, "use colours, unless the environment has NO_COLOR")
	socketFlag(c, &w.socket)
	return c
}

// speaksUTF8 reports whether the locale has UTF-8, locale(7).
func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(os.Getenv(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// watching is a live view.
type watching struct {
	socket string
	every  time.Duration
	style  client.Style
	screen client.Screen
	shown  []string // what the terminal shows
	cols   int
	rows   int
}

// Sequences of ECMA-48 and of xterm, which every terminal emulator has: the alternate
// screen, so that what was there before comes back, and the cursor, which is hidden.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[2J"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// run shows the view until a key or ctx ends it.
func (w *watching) run(ctx context.Context) (err error) {
	if !local.Supported {
		return errors.New("fieldpost watch needs the daemon's socket, which only Linux has")
	}
	// A file of our own: closing it ends the read of a key, and the shell's file keeps its mode.
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil || !term.IsTerminal(int(os.Stdout.Fd())) {
		if err == nil {
			tty.Close()
		}
		return errors.New("fieldpost watch needs a terminal; for a pipe or a file use fieldpost status --watch")
	}
	fd, err := descriptor(tty)
	if err != nil {
		return errors.Join(err, tty.Close())
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return errors.Join(fmt.Errorf("terminal: %w", err), tty.Close())
	}
	keys := make(chan client.Key, 16)
	failed := make(chan error, 1)
	reading := task.Start("keys", failed, func(ctx context.Context) error { return readKeys(ctx, tty, keys) })
	defer func() { // also after a panic: without it the shell would have a terminal in raw mode
		_, _ = io.WriteString(tty, leaveScreen)
		restored := term.Restore(fd, before)
		tty.Close()
		err = errors.Join(err, reading.Stop(time.Second), restored)
	}()
	if _, err := io.WriteString(tty, enterScreen); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return w.loop(ctx, tty, fd, keys, failed)
}

// descriptor returns a file's descriptor. It stays in the runtime's poller, as it would not
// after Fd.
func descriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

type statusAnswer struct {
	status api.Status
	err    error
}

type orderAnswer struct {
	answer api.OrderAnswer
	err    error
}

// loop asks, draws and obeys keys. At most one question and one order are under way.
func (w *watching) loop(ctx context.Context, tty *os.File, fd int, keys <-chan client.Key, failed <-chan error) error {
	statuses, answers := make(chan statusAnswer, 1), make(chan orderAnswer, 1)
	resized, stop := terminalResized()
	defer stop()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	ctx, cancel := context.WithCancel(ctx)
	var asking, sending *task.Task
	defer func() {
		cancel()
		for _, t := range []*task.Task{asking, sending} {
			if t != nil {
				_ = t.Stop(time.Second) // it has nothing to say to anybody now
			}
		}
	}()
	ask := func() {
		asking = task.Start("status", make(chan error, 1), func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			r, err := client.AskStatus(ctx, w.socket)
			statuses <- statusAnswer{r, err}
			return nil
		})
	}
	ask()
	for {
		if err := w.show(tty, fd); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-resized:
		case <-tick.C:
			if asking == nil {
				ask()
			}
		case s := <-statuses:
			asking = nil
			w.screen.Update(s.status, s.err, time.Now())
		case a := <-answers:
			sending = nil
			w.screen.Answered(a.answer, a.err)
		case k := <-keys:
			order, thing, quit := w.screen.Press(k)
			if quit {
				return nil
			}
			if order != nil {
				sending = task.Start("order", make(chan error, 1), func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, answerTime)
					defer cancel()
					a, err := client.AskOrder(ctx, w.socket, thing, *order)
					answers <- orderAnswer{a, err}
					return nil
				})
			}
		}
	}
}

// show sends the lines that have changed to the terminal.
func (w *watching) show(tty io.Writer, fd int) error {
	cols, rows, err := term.GetSize(fd)
	if err != nil || cols <= 0 || rows <= 0 {
		cols, rows = 80, 24 // a serial console does not know its size
	}
	var b strings.Builder
	if cols != w.cols || rows != w.rows {
		b.WriteString("\x1b[2J")
		w.cols, w.rows, w.shown = cols, rows, nil
	}
	lines := w.screen.Draw(cols, rows, w.style)
	for i, l := range lines {
		if i >= len(w.shown) || w.shown[i] != l {
			fmt.Fprintf(&b, "\x1b[%d;1H%s\x1b[K", i+1, l)
		}
	}
	w.shown = lines
	if b.Len() == 0 {
		return nil
	}
	if _, err := io.WriteString(tty, b.String()); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// sequences are what keys without a character send.
var sequences = map[string]client.Key{
	"\x1b[A": client.KeyUp, "\x1bOA": client.KeyUp, "\x1b[B": client.KeyDown, "\x1bOB": client.KeyDown,
	"\x1b[5~": client.KeyPageUp, "\x1b[6~": client.KeyPageDown,
}

// readKeys reads keys until the terminal is closed. A sequence that comes in pieces, as it may
// over a slow connection, is at worst a key that means nothing.
func readKeys(ctx context.Context, tty io.Reader, keys chan<- client.Key) error {
	buf := make([]byte, 64)
	for {
		n, err := tty.Read(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
				return nil
			}
			return fmt.Errorf("the terminal has gone: %w", err)
		}
		for _, k := range decodeKeys(buf[:n]) {
			select {
			case keys <- k:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// decodeKeys finds the keys in what a terminal has sent. An unknown sequence is no key.
func decodeKeys(in []byte) (out []client.Key) {
	for len(in) > 0 {
		if in[0] != '\x1b' {
			out = append(out, client.Key(in[0]))
			in = in[1:]
			continue
		}
		n := 1
		if n < len(in) && (in[n] == '[' || in[n] == 'O') {
			for n++; n < len(in) && (in[n] < '@' || in[n] > '~'); n++ {
			}
			n = min(n+1, len(in))
		}
		if k, ok := sequences[string(in[:n])]; ok {
			out = append(out, k)
		} else if n == 1 {
			out = append(out, client.KeyEscape)
		}
		in = in[n:]
	}
	return out
}

// watchStatus prints the status every so often until ctx ends: with asJSON one object a line.
func watchStatus(ctx context.Context, c *cobra.Command, socket string, every time.Duration, asJSON bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := printOnce(ctx, c, socket, asJSON); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// printOnce says on the standard error output that there is no answer, and goes on then: the
// daemon may be restarting.
func printOnce(ctx context.Context, c *cobra.Command, socket string, asJSON bool) error {
	asked, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	r, err := client.AskStatus(asked, socket)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		_, err = fmt.Fprintln(c.ErrOrStderr(), "fieldpost:", err)
		return err
	case asJSON:
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	if err := client.PrintStatus(c.OutOrStdout(), r); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.OutOrStdout())
	return err
}
