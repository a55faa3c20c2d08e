package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/client"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/sim"

	"github.com/rogpeppe/go-internal/testscript"
)

// simulatedBoard runs a daemon with the configuration of its argument, on a board with a
// BME280 at 0x76 of i2c-1, until the script ends. Its socket is in $RUNTIME_DIRECTORY,
// and every sensor has been read. The second argument is a file for what scan prints of
// that board, which then also has a BMP180 at 0x77.
func simulatedBoard(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 && len(args) != 2 {
		ts.Fatalf("usage: simulated-board CONFIG [LIST]")
	}
	cfg, err := config.Load(ts.MkAbs(args[0]))
	ts.Check(err)
	b := sim.New()
	b.AddBus("i2c-1").AddBME280(0x76).SetTemperature(21.5)
	now, err := clock.System()
	ts.Check(err)
	now = clock.Trusted(now)
	b.SetMono(func() time.Duration { return now.Now().Mono })
	dir := ts.MkAbs(".")
	d, err := daemon.New(daemon.Options{
		Config: cfg, LoadConfig: reader(cfg.File), Board: b, Clock: now, Log: slog.New(slog.DiscardHandler), Version: "v0",
		Notify: &systemd.Notifier{Send: func(string) error { return nil }},
		Socket: filepath.Join(dir, "fieldpost.sock"),
	})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
	})
	ts.Setenv("RUNTIME_DIRECTORY", dir)
	awaitReading(ts, filepath.Join(dir, "fieldpost.sock"))
	if len(args) == 2 {
		b.AddBus("i2c-1").AddChip("bmp180", 0x77)
		var list bytes.Buffer
		ts.Check(scanBoard(ctx, b, filepath.Join(dir, "fieldpost.sock")).Print(&list))
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), list.Bytes(), 0o644))
	}
}

// awaitReading waits until the daemon has read all its sensors.
func awaitReading(ts *testscript.TestScript, socket string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := client.AskStatus(ctx, socket)
		ready := err == nil
		for _, s := range r.Sensors {
			ready = ready && (s.Values != nil || s.Faults != nil)
		}
		if ready {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			ts.Fatalf("the daemon is not ready: %+v, %v", r, err)
		}
	}
}
