package footprint

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/wake"
	"fieldpost/sensors"
	"fieldpost/sensors/sim"

	"go.uber.org/goleak"
)

// childConfig names, in the environment, the configuration of a daemon that
// this program is to be, and nothing else. childMarks are counts, as a JSON
// array, and it prints a line at each, with how many objects it has allocated and how
// often it has appended to the spool by then: of acknowledged messages, or where
// childCounts is "readings" of readings taken.
const (
	childConfig = "FIELDPOST_BENCH_CHILD"
	childMarks  = "FIELDPOST_BENCH_MARKS"
	childCounts = "FIELDPOST_BENCH_COUNTS"
	// childRuntime is the runtime directory, or "" for one beside the configuration.
	childRuntime = "FIELDPOST_BENCH_RUNTIME"
	// childChatter is set where ten lines of the board are to chatter at 1 kHz.
	childChatter = "FIELDPOST_BENCH_CHATTER"
	// childSets is how many sets of ten sensors the board has; one where it is not set.
	childSets = "FIELDPOST_BENCH_SETS"
	// childByteTime is how long a byte takes on the I2C buses, as a duration.
	childByteTime = "FIELDPOST_BENCH_BYTE_TIME"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childConfig); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

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
	if stop, err := wake.UseKernelTimer(); err == nil { // as the program does
		defer stop()
	}
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	now, err := clock.System()
	if err != nil {
		return err
	}
	var m milestones
	if err := json.Unmarshal([]byte(cmp.Or(os.Getenv(childMarks), "[]")), &m.left); err != nil {
		return err
	}
	runtimeDir := cmp.Or(os.Getenv(childRuntime), filepath.Join(filepath.Dir(path), "runtime"))
	if err := os.MkdirAll(runtimeDir, 0o750); err != nil {
		return err
	}
	sets, err := strconv.Atoi(cmp.Or(os.Getenv(childSets), "1"))
	if err != nil {
		return err
	}
	board := simulated(sets)
	if os.Getenv(childChatter) != "" {
		var lines sync.WaitGroup
		defer lines.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for n := range chatterLines {
			lines.Go(func() { board.Line(fmt.Sprintf("GPIO%d", n)).Chatter(ctx, 1000) })
		}
	}
	byteTime, err := time.ParseDuration(cmp.Or(os.Getenv(childByteTime), "0"))
	if err != nil {
		return err
	}
	o := daemon.Options{
		Config: cfg, Board: slowBoard{board, byteTime}, Runtime: runtimeDir, Clock: clock.Trusted(now), Notify: &systemd.Notifier{}, Version: "benchmark",
		Log: systemd.NewLogger(os.Stderr, slog.LevelWarn),
	}
	if os.Getenv(childCounts) == "readings" {
		o.Taken = func(r message.Record) {
			if r.Kind == message.Reading {
				m.reach(m.n.Add(1))
			}
		}
	} else {
		o.Linked = func(st uplink.Status) { m.reach(st.Published) }
	}
	d, err := daemon.New(o)
	if err != nil {
		return err
	}
	m.appends = func() uint64 { return d.SpoolStats().Appends }
	return d.Run(ctx)
}

// milestones prints a line whenever a count has come to the next mark.
type milestones struct {
	n       atomic.Uint64
	appends func() uint64 // to the spool, so far

	mu   sync.Mutex
	left []uint64
}

func (m *milestones) reach(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.left) > 0 && n >= m.left[0] {
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		fmt.Println(m.left[0], mem.Mallocs, m.appends())
		m.left = m.left[1:]
	}
}

// simulated is the board of a child's configuration: sets of ten sensors, each on two buses of
// its own.
func simulated(sets int) *sim.Board {
	b := sim.New()
	for set := range sets {
		first, second := b.AddBus(busName(set, 1)), b.AddBus(busName(set, 3))
		for i := range uint16(2) {
			first.AddBME280(0x76 + i)
			first.AddTMP102(0x48 + i)
			second.AddTMP102(0x48 + i)
			second.AddLM75(0x4a+i, 11)
			second.AddLM75(0x4c+i, 11)
		}
	}
	return b
}

// busName is the name of a set's bus 1 or 3.
func busName(set, n int) string { return fmt.Sprintf("i2c-%d", 10*set+n) }

// childPlan is what a child is to do.
type childPlan struct {
	endpoint string // of the site's broker where it is ""
	every    time.Duration
	sets     int           // of ten sensors; 0 is one
	batch    int           // readings in a message; 0 is none but one
	room     string        // the spool's max_bytes, or its default
	inputs   bool          // the lines that chatter are sensors
	chatter  bool          // ten lines change a thousand times a second
	allCPUs  bool          // without the unit's GOMAXPROCS and TimerSlackNSec
	byteTime time.Duration // a byte's on the I2C buses; 0 is none
	oneTopic bool          // orders and answers on the readings' topic
	page     string        // the address of the web page; "" is none
	marks    []int
	counts   string // what the marks count: "readings" taken, or acknowledgements
}

// config is sets of ten sensors with the same period. Orders have a topic of their
// own, as in the starter configuration.
func (p childPlan) config() []byte {
	orders, batch, room := "test/topic/commands", "", cmp.Or(p.room, "256MiB")
	if p.oneTopic {
		orders = "test/topic"
	}
	if p.batch > 0 {
		batch = fmt.Sprintf("batch: {max: %d}", p.batch)
	}
	text := fmt.Appendf(nil, `thing: thing-greenhouse
broker:
  endpoint: %s
readings:
  topic: test/topic
  %s
commands:
  topic: %s
  answers: test/topic
spool:
  dir: spool
  max_bytes: %s
outputs:
  - {name: pump, pin: GPIO27, initial: off, safe: off}
sensors:
`, p.endpoint, batch, orders, room)
	for _, c := range sensorConfigs(max(p.sets, 1)) {
		text = fmt.Appendf(text, "  - {name: %s, chip: %s, bus: %s, address: %#x, every: %v}\n", c.Name, c.Chip, c.Place().Bus, c.Place().Address, p.every)
	}
	for n := range chatterLines {
		if p.inputs {
			text = fmt.Appendf(text, "  - {name: in-%d, chip: gpio, pin: GPIO%d}\n", n, n)
		}
	}
	if p.page != "" {
		text = fmt.Appendf(text, "local: {listen: %q}\n", p.page)
	}
	return text
}

// chatterLines is how many lines, GPIO0 and on, chatter where lines do.
const chatterLines = 10

// sensorConfigs is what is on simulated.
func sensorConfigs(sets int) (all []sensors.Config) {
	for set := range sets {
		first, second := busName(set, 1), busName(set, 3)
		for i := range uint16(2) {
			for _, c := range []sensors.Config{
				{Name: "air", Chip: "bme280", Options: sensors.I2C{Bus: first, Address: 0x76}}, {Name: "soil", Chip: "tmp102", Options: sensors.I2C{Bus: first, Address: 0x48}},
				{Name: "tank", Chip: "tmp102", Options: sensors.I2C{Bus: second, Address: 0x48}}, {Name: "pipe", Chip: "lm75", Options: sensors.I2C{Bus: second, Address: 0x4a}},
				{Name: "roof", Chip: "lm75", Options: sensors.I2C{Bus: second, Address: 0x4c}},
			} {
				at := c.Place()
				c.Name, c.Options = fmt.Sprintf("%s-%d", c.Name, 2*set+int(i)), sensors.I2C{Bus: at.Bus, Address: at.Address + i}
				all = append(all, c)
			}
		}
	}
	return all
}
