//go:build race

package refresh_test

import "runtime"

// Timers of a testing/synctest bubble use one context of the race detector,
// which two threads may enter at once; the detector then crashes now and then
// (Go 1.26, golang/go issue 78156). One thread finds the same races.
func init() { runtime.GOMAXPROCS(1) }
