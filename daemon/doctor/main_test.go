package doctor

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	// The brokers of the tests are not behind a proxy.
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		_ = os.Unsetenv(name)
	}
	os.Exit(m.Run())
}
