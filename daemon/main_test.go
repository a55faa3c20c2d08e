//go:build !rehearsal

package daemon_test

import (
	"testing"

	"go.uber.org/goleak"
)

// In a rehearsal (see panic_rehearsal_test.go) parts wait for goroutines that panicked, until
// the process ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
