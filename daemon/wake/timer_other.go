//go:build !linux

package wake

import (
	"errors"
	"time"
)

// UseKernelTimer is for Linux; elsewhere timers are Go's.
func UseKernelTimer() (stop func(), err error) { return nil, errors.ErrUnsupported }

type kernelTimers struct{}

func (*kernelTimers) reset(*Timer, time.Duration) {}

func (*kernelTimers) stop(*Timer) bool { return false }
