package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/page"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/sim"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "run everything on this machine, without hardware or account",
		Long: `Run the daemon on a simulated board, with the embedded broker, mutual TLS and the AWS
IoT tutorial's restricted policy. Print each reading when it is acknowledged. Send an
order every few seconds and print its answer. All messages use the tutorial's one
topic, test/topic.

Print the URL of the board's web page, which also subscribes and publishes at the
broker, like the MQTT test client of the AWS console.

With --for the demo ends by itself and prints how many readings and orders there were.
The exit status is 0 only if every reading was acknowledged and every order was
answered.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.For < 0 || o.Orders <= 0 {
				return usage(c, errors.New("--for must be 0 or more and --orders more than 0"))
			}
			if o.Dir == "" {
				cache, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("find a directory for the demo's files: %w; name one with --dir", err)
				}
				o.Dir = filepath.Join(cache, "fieldpost", "demo")
			}
			o.Out, o.Version = c.OutOrStdout(), version
			o.Log = systemd.NewLogger(c.ErrOrStderr(), slog.LevelWarn)
			return demo(c.Context(), o)
		},
	}
	c.Flags().DurationVar(&o.For, "for", 0, "how long to run; 0 is until Ctrl-C")
	c.Flags().DurationVar(&o.Orders, "orders", 3*time.Second, "time between orders")
	c.Flags().StringVar(&o.Dir, "dir", "", "`directory` for certificates, configuration and spool (default: in the user's cache)")
	return c
}

// demoOptions says how the demo runs.
type demoOptions struct {
	Dir     string        // where certificates, configuration and spool are kept
	For     time.Duration // how long; 0 until ctx ends
	Orders  time.Duration // from one order to the next
	Out     io.Writer     // what the user sees
	Log     *slog.Logger  // the daemon's own log
	Version string
}

// demoConfig is the configuration that the demo writes and then loads like any
// other. Everything is on the tutorial's one topic.
const demoConfig = `# Written by fieldpost demo.
thing: thing-greenhouse
broker:
  endpoint: %s
readings:
  topic: test/topic
commands:
  topic: test/topic
  answers: test/topic
spool:
  dir: spool
local:
  listen: %s
  token_file: page.token
sensors:
  - name: air
    chip: bme280
    bus: i2c-1
    address: 0x76
    every: 1s
  - name: soil
    chip: tmp102
    bus: i2c-1
    address: 0x48
    every: 2s
  - name: door
    chip: gpio
    pin: GPIO17
    pull: up
    active_low: true
    debounce: 20ms
outputs:
  - name: pump
    pin: GPIO27
    initial: off
    safe: off
    safe_after: 1m
    max_on: 5m
`

// demo shows the whole program on any machine: a simulated board, the daemon,
// and an embedded broker with mutual TLS and the tutorial's restricted policy.
// It prints each reading when it is acknowledged, and sends an order every few
// seconds and prints its answer. It returns nil only if every reading was
// acknowledged and every order answered with done.
func demo(ctx context.Context, o demoOptions) error {
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	certs := filepath.Join(o.Dir, "certs")
	b, err := broker.New(broker.Options{Dir: certs, Policy: awsiot.Tutorial(), Log: o.Log})
	if err != nil {
		return err
	}
	failed := make(chan error, 8)
	serving := task.Start("broker", failed, b.Run)
	err = demoWith(ctx, o, b, failed)
	return errors.Join(err, serving.Stop(5*time.Second))
}

func demoWith(ctx context.Context, o demoOptions, b *broker.Broker, failed chan error) error {
	// Opened here and handed over: nobody can take the port in between.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a port for the demo's page: %w", err)
	}
	defer listener.Close() // once more after the daemon has; or there is none
	cfg, err := demoSetUp(o.Dir, b.Addr(), listener.Addr().String())
	if err != nil {
		return err
	}
	sb, scenario := demoBoard()
	living := task.Start("simulated board", failed, scenario.Run)
	now, err := clock.System()
	if err != nil {
		return errors.Join(err, living.Stop(time.Second))
	}
	now = clock.Trusted(now)
	sb.SetMono(func() time.Duration { return now.Now().Mono })
	v := &demoView{out: o.Out, linked: make(chan struct{})}
	d, err := daemon.New(daemon.Options{
		Config: cfg, LoadConfig: reader(cfg.File), Board: sb, Clock: now, Log: o.Log, Notify: &systemd.Notifier{}, Version: o.Version,
		Socket: filepath.Join(o.Dir, "fieldpost.sock"), PageListener: listener, Console: console(b), Taken: v.taken, Acked: v.acked, Linked: v.link,
	})
	if err != nil {
		return errors.Join(err, living.Stop(time.Second))
	}
	fmt.Fprintf(o.Out, "A board with three sensors and a pump, simulated, and its broker. Nothing leaves this machine.\n")
	fmt.Fprintf(o.Out, "broker   mqtts://%s  CA and client certificate in %s\n", b.Addr(), filepath.Dir(b.Files().CA))
	fmt.Fprintf(o.Out, "daemon   %s  sensors air, soil, door; output pump; all on %s\n", cfg.Thing, cfg.ReadingsTopic(""))
	link, err := pageURL(cfg)
	if err != nil {
		return errors.Join(err, living.Stop(time.Second))
	}
	fmt.Fprintf(o.Out, "page     %s\n", link)
	if local.Supported {
		fmt.Fprintf(o.Out, "try      fieldpost send --socket %s pump on --for 5s\n", filepath.Join(o.Dir, "fieldpost.sock"))
		fmt.Fprintf(o.Out, "         fieldpost watch --socket %s\n", filepath.Join(o.Dir, "fieldpost.sock"))
	}
	fmt.Fprint(o.Out, demoLegend(o), "\n")
	running := task.Start("daemon", failed, d.Run)
	orders := task.Start("orders", make(chan error, 1), func(ctx context.Context) error { return demoOrders(ctx, o, cfg, v) })
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-failed:
		errs = append(errs, err)
	}
	errs = append(errs, orders.Stop(15*time.Second), running.Stop(time.Minute), living.Stop(time.Second), v.summary())
	return errors.Join(errs...)
}

// console lets the page of the demo subscribe and publish at its broker.
func console(b *broker.Broker) *page.Console {
	return &page.Console{
		Watch: func(filter string, see func(page.Message)) (stop func(), err error) {
			return b.Watch(filter, func(m broker.Message) { see(page.Message(m)) })
		},
		Publish: func(m page.Message) error { return b.Publish(broker.Message(m)) },
	}
}

// demoLegend says what the lines of the demo are.
func demoLegend(o demoOptions) string {
	ends := "until Ctrl-C; then the counts"
	if o.For > 0 {
		ends = fmt.Sprintf("for %v; then the counts", o.For)
	}
	return fmt.Sprintf(`below    reading, edge: values of a sensor, which the broker has acknowledged
         order, answer: every %v an order to the pump comes through the broker, and is answered
         event: the pump has changed, and why
runs     %s
`, o.Orders, ends)
}

// demoSetUp writes the configuration and loads it.
func demoSetUp(dir, endpoint, listen string) (*config.Config, error) {
	// Remove what the last demo left.
	if err := os.RemoveAll(filepath.Join(dir, "spool")); err != nil {
		return nil, fmt.Errorf("clear the demo's spool: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "page.token"), []byte(rand.Text()+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write the demo's token: %w", err)
	}
	path := filepath.Join(dir, "fieldpost.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, demoConfig, endpoint, listen), 0o644); err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	return config.Load(path)
}

// demoBoard makes the board that demoConfig describes, and what happens on it.
func demoBoard() (*sim.Board, sim.Scenario) {
	b := sim.New()
	bus := b.AddBus("i2c-1")
	bus.AddTMP102(0x48)
	return b, sim.Scenario{Air: bus.AddBME280(0x76), Door: b.Line("GPIO17")}
}

// demoOrders sends an order every few seconds and waits for its answer. If ctx
// ends meanwhile, it still waits for the answer.
func demoOrders(ctx context.Context, o demoOptions, cfg *config.Config, v *demoView) error {
	select {
	case <-v.linked:
	case <-ctx.Done():
		return nil
	}
	p, err := client.NewOrderer(cfg, "test-orders", o.Log)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	linking := task.Start("orders' link", failed, p.Run)
	defer linking.Stop(10 * time.Second)
	tick := time.NewTicker(o.Orders)
	defer tick.Stop()
	for n := 0; ; n++ {
		action, lasting := "on", 2*o.Orders/3
		if n%3 == 2 {
			action, lasting = "toggle", 0
		}
		// Wait for the answer to an order that was sent, also after the demo's
		// time is up.
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		v.sent(action)
		a, err := p.Send(wait, client.OrderRequest{Output: "pump", Action: action, For: lasting, Life: time.Minute})
		cancel()
		v.answered(action, a, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// demoView shows and counts what happens.
type demoView struct {
	out    io.Writer
	linked chan struct{}

	mu                      sync.Mutex
	up                      bool
	readings, acks          int
	orders, answers, unwell int
}

func (v *demoView) taken(r message.Record) {
	if r.Kind == message.Reading || r.Kind == message.Edge {
		v.mu.Lock()
		v.readings++
		v.mu.Unlock()
	}
}

func (v *demoView) acked(r message.Record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	what := string(r.Kind)
	switch r.Kind {
	case message.Reading, message.Edge:
		v.acks++
	case message.Answer:
		return // shown when the sender has it
	}
	fmt.Fprintf(v.out, "%s  %-8s %-5s %s  acknowledged\n", r.Stamp.Wall.Local().Format("15:04:05.000"), what, r.Sensor, values(r))
}

func (v *demoView) link(s uplink.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.Connected && !v.up {
		v.up = true
		close(v.linked)
	}
}

func (v *demoView) sent(action string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.orders++
	fmt.Fprintf(v.out, "%s  order    pump  %s\n", time.Now().Format("15:04:05.000"), action)
}

func (v *demoView) answered(action string, a api.OrderAnswer, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := time.Now().Format("15:04:05.000")
	if err != nil {
		fmt.Fprintf(v.out, "%s  answer   pump  %s: none: %v\n", at, action, err)
		return
	}
	v.answers++
	if a.Status != "done" {
		v.unwell++
	}
	fmt.Fprintf(v.out, "%s  answer   pump  %s: %s\n", at, action, client.AnswerText(a))
}

// summary prints the counts. It returns an error if a message or an order was
// lost or failed.
func (v *demoView) summary() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintf(v.out, "\nreadings taken %d, acknowledged %d; orders sent %d, answered %d\n", v.readings, v.acks, v.orders, v.answers)
	switch {
	case v.readings == 0 || v.orders == 0:
		return errors.New("the demo ended before anything happened; run it for longer")
	case v.readings != v.acks:
		return fmt.Errorf("%d readings were not acknowledged", v.readings-v.acks)
	case v.orders != v.answers:
		return fmt.Errorf("%d orders were not answered", v.orders-v.answers)
	case v.unwell > 0:
		return fmt.Errorf("%d orders were not carried out", v.unwell)
	}
	return nil
}

// values formats a record's fields for people.
func values(r message.Record) string {
	parts := make([]string, 0, len(r.Fields))
	for _, f := range r.Fields {
		b, err := json.Marshal(f.Value)
		if err != nil {
			b = fmt.Append(nil, f.Value)
		}
		parts = append(parts, f.Name+" "+strings.Trim(string(b), `"`))
	}
	return strings.Join(parts, ", ")
}
