//go:build !unix

package main

import "os"

// terminalResized never says anything here.
func terminalResized() (<-chan os.Signal, func()) { return nil, func() {} }
