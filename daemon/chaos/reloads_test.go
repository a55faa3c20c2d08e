//go:build chaos && linux

package chaos

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"fieldpost/daemon/api"
	"fieldpost/daemon/daemontest"
)

// periods are the possible periods of the sensor air, and spares the possible additional
// outputs. Each reload chooses one.
var (
	periods = []string{"50ms", "60ms", "80ms"}
	spares  = []string{"", "  - {name: spare, pin: GPIO25, initial: off, safe: off}\n", "  - {name: spare, pin: GPIO26, initial: off, safe: off}\n"}
)

// reload reloads another configuration, once or twice at once, and perhaps kills the
// daemon meanwhile.
func (c *testbed) reload() func() {
	c.awaitSocket()
	c.period, c.spare = periods[c.random.IntN(len(periods))], spares[c.random.IntN(len(spares))]
	if c.random.IntN(2) == 0 {
		c.page = c.pages[c.random.IntN(len(c.pages))]
	}
	if !c.backlogged() && c.diskGood() { // otherwise the link may wait too long
		c.keys = readingsKeys[c.random.IntN(len(readingsKeys))]
	}
	c.configure()
	c.note("reloaded with %s, air every %s, spare %q, page %s", c.keys, c.period, c.spare, c.page)
	clients := []*reloading{c.startReload()}
	if c.random.IntN(2) == 0 {
		clients = append(clients, c.startReload())
	}
	killed := c.random.IntN(4) == 0
	if killed {
		c.kill()
	}
	for _, r := range clients {
		status, said := c.endReload(r)
		hangs := status == 1 && bytes.Contains(said, []byte("something hangs"))
		if status != 0 && !hangs && !killed {
			c.t.Errorf("reload: status %d: %s", status, said)
		}
		if hangs {
			c.done["  of which something hung"]++
		}
	}
	if killed {
		c.start()
		c.done["  of which the daemon was killed during a reload"]++
	}
	return nil
}

// reloadWrong reloads an invalid configuration. It must be refused without any other
// effect.
func (c *testbed) reloadWrong() func() {
	c.awaitSocket()
	good := c.get(c.config())
	switch c.random.IntN(6) {
	case 0:
		c.put(c.config(), append(good, "nonsense: true\n"...))
	case 1:
		c.put(c.config(), bytes.Replace(good, []byte("{dir: spool"), []byte("{dir: elsewhere"), 1))
	case 2:
		c.put(c.config(), good[:c.random.IntN(60)]) // within the second line
	case 3:
		c.put(c.config(), bytes.Repeat([]byte("# nothing\n"), 100_000))
	case 4:
		c.put(c.config(), bytes.Replace(good, []byte("GPIO22"), []byte("GPIO23"), 1)) // two outputs on one line
	default:
		if err := errors.Join(os.Remove(c.config()), syscall.Mkfifo(c.config(), 0o600)); err != nil {
			c.t.Fatal(err)
		}
	}
	if status, said := c.endReload(c.startReload()); status != 78 {
		c.t.Errorf("reload of what is wrong: status %d: %s", status, said)
	}
	if err := os.Remove(c.config()); err != nil {
		c.t.Fatal(err)
	}
	c.put(c.config(), good)
	return nil
}

// awaitSocket waits until the daemon answers on its socket.
func (c *testbed) awaitSocket() {
	c.t.Helper()
	daemontest.AwaitStatus(c.t, filepath.Join(c.dir, "run", "fieldpost.sock"), "answer", func(api.Status) bool { return true })
}

// reloading is a `fieldpost reload` that runs.
type reloading struct {
	cmd  *exec.Cmd
	said bytes.Buffer
}

func (c *testbed) startReload() *reloading {
	c.t.Helper()
	r := &reloading{cmd: exec.Command(c.program, "reload")}
	r.cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+filepath.Join(c.dir, "run"))
	r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
	if err := r.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// endReload waits for the end of a reload, which has its own time limit.
func (c *testbed) endReload(r *reloading) (status int, said []byte) {
	c.t.Helper()
	err := r.cmd.Wait()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		c.t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode(), r.said.Bytes()
}
