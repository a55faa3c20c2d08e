package daemon

import (
	"fmt"
	"testing"
	"time"
)

// Who asks again within a second gets the metrics from before.
func TestMetricsAreMadeOnceASecond(t *testing.T) {
	var m metricsText
	made := 0
	for _, c := range []struct {
		at   time.Duration
		want string
	}{
		{5 * time.Second, "1"}, {5*time.Second + metricsEvery/2, "1"}, {5*time.Second + metricsEvery, "2"}, {5*time.Second + metricsEvery + 1, "2"},
		{time.Second, "3"}, // the clock of another boot, as in a virtual machine that was restored
	} {
		if got := m.get(c.at, func() string { made++; return fmt.Sprint(made) }); got != c.want {
			t.Errorf("at %v: %s, want %s", c.at, got, c.want)
		}
	}
}
