package daemon_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/sim"
)

// childConfig names, in the environment, the configuration of a daemon that
// this program is to be, and nothing else.
const childConfig = "FIELDPOST_BENCH_CHILD"

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
	d, err := daemon.New(daemon.Options{
		Config: cfg, Board: tenSensors(), Clock: now, Notify: &systemd.Notifier{}, Version: "benchmark",
		Log: systemd.NewLogger(os.Stderr, slog.LevelWarn),
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// tenSensors is the board that tenConfig describes.
func tenSensors() *sim.Board {
	b := sim.New()
	bus := b.AddBus("i2c-1")
	bus.AddBME280(0x76)
	bus.AddBME280(0x77)
	for addr := range uint16(4) {
		bus.AddTMP102(0x48 + addr)
		bus.AddLM75(0x4c+addr, 11)
	}
	return b
}

// tenConfig is ten sensors, each once a second. Orders have a topic of their
// own, as in the starter configuration.
func tenConfig(endpoint string) []byte {
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
outputs:
  - {name: pump, pin: GPIO27, initial: off, safe: off}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 1s}
  - {name: attic, chip: bme280, bus: i2c-1, address: 0x77, every: 1s}
`, endpoint)
	for i := range 4 {
		text = fmt.Appendf(text, "  - {name: soil-%d, chip: tmp102, bus: i2c-1, address: %#x, every: 1s}\n", i, 0x48+i)
		text = fmt.Appendf(text, "  - {name: tank-%d, chip: lm75, bus: i2c-1, address: %#x, every: 1s}\n", i, 0x4c+i)
	}
	return text
}
