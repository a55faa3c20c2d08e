//go:build !linux

package rehearse

import "errors"

func mountSmall(string, int) (unmount func(), err error) { return nil, errors.ErrUnsupported }

func roomIn(string) (uint64, error) { return 0, errors.ErrUnsupported }
