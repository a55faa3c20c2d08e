package daemon_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/sim"
)

// childConfig names, in the environment, the configuration of a daemon that
// this program is to be, and nothing else. childMarks are counts of
// acknowledgements, as a JSON array; it prints a line at each.
const (
	childConfig = "FIELDPOST_BENCH_CHILD"
	childMarks  = "FIELDPOST_BENCH_MARKS"
)

// child runs the daemon alone, on a simulated board, until its standard input
// ends: also when the benchmark that started it is killed.
func child(path string) (status int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := alone(ctx, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func alone(ctx context.Context, path string) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	now, err := clock.System()
	if err != nil {
		return err
	}
	var marks []uint64
	if err := json.Unmarshal([]byte(cmp.Or(os.Getenv(childMarks), "[]")), &marks); err != nil {
		return err
	}
	d, err := daemon.New(daemon.Options{
		Config: cfg, Board: tenSensors(), Clock: now, Notify: &systemd.Notifier{}, Version: "benchmark",
		Log: systemd.NewLogger(os.Stderr, slog.LevelWarn),
		Linked: func(st uplink.Status) {
			for len(marks) > 0 && st.Acked >= marks[0] {
				fmt.Println(marks[0])
				marks = marks[1:]
			}
		},
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// tenSensors is the board that tenConfig describes.
func tenSensors() *sim.Board {
	b := sim.New()
	first, second := b.AddBus("i2c-1"), b.AddBus("i2c-3")
	for i := range uint16(2) {
		first.AddBME280(0x76 + i)
		first.AddTMP102(0x48 + i)
		second.AddTMP102(0x48 + i)
		second.AddLM75(0x4a+i, 11)
		second.AddLM75(0x4c+i, 11)
	}
	return b
}

// tenConfig is ten sensors with the same period. Orders have a topic of their
// own, as in the starter configuration.
func tenConfig(endpoint string, every time.Duration) []byte {
	text := fmt.Appendf(nil, `thing: thing-greenhouse
broker:
  endpoint: %s
readings:
  topic: test/topic
commands:
  topic: test/topic/commands
  answers: test/topic/answers
spool:
  dir: spool
  max_bytes: 16GiB
outputs:
  - {name: pump, pin: GPIO27, initial: off, safe: off}
sensors:
`, endpoint)
	for i := range 2 {
		for _, s := range []struct {
			name, chip, bus string
			address         int
		}{
			{"air", "bme280", "i2c-1", 0x76}, {"soil", "tmp102", "i2c-1", 0x48},
			{"tank", "tmp102", "i2c-3", 0x48}, {"pipe", "lm75", "i2c-3", 0x4a}, {"roof", "lm75", "i2c-3", 0x4c},
		} {
			text = fmt.Appendf(text, "  - {name: %s-%d, chip: %s, bus: %s, address: %#x, every: %v}\n",
				s.name, i, s.chip, s.bus, s.address+i, every)
		}
	}
	return text
}
