//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// terminalResized returns a channel that gets a value when the terminal has another size.
func terminalResized() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}
