//go:build !linux

package main

import (
	"errors"
	"time"
)

// monotonic is there on Linux only, as boards are.
func monotonic() (time.Duration, error) { return 0, errors.ErrUnsupported }

func synchronised() (bool, error) { return false, errors.ErrUnsupported }
