//go:build picture

package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/sim"
)

// TestPictureOfWatch makes the picture of `fieldpost watch` for the README: `make pictures`. It
// is what the program writes to a terminal, while a daemon on a simulated board has a fault and
// carries out an order that was given by keys.
func TestPictureOfWatch(t *testing.T) {
	file := os.Getenv("FIELDPOST_WATCH_PICTURE")
	if file == "" {
		t.Fatal("FIELDPOST_WATCH_PICTURE is not set: run `make pictures`")
	}
	const cols, rows = 88, 22
	s := daemontest.NewSite(t, nil)
	soil := s.Bus.AddTMP102(0x48)
	s.Board.Line("GPIO17")
	cfg := s.Config(`  - {name: soil, chip: tmp102, bus: i2c-1, address: 0x48, every: 100ms}
  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true, debounce: 20ms}`, `  - {name: fan, pin: GPIO5, safe: off, safe_after: 5m}`)
	socket := daemontest.SocketPath(t)
	now := s.Clock()
	s.Board.SetMono(func() time.Duration { return now.Now().Mono })
	d, err := daemon.New(daemon.Options{
		Config: cfg, Board: s.Board, Clock: now, Runtime: s.Dir, Version: "v0.2.0", Socket: socket, Log: daemontest.Log(t),
		Notify: &systemd.Notifier{Send: func(string) error { return nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Background(t, d.Run)
	awaitAnswer(t, socket)

	w, terminal := newWindow(t)
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "fieldpost", "watch", "--socket", socket, "--every", "250ms")
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	const all = 120 // ticks: more than a plot is wide
	for n := range all {
		<-tick.C
		x := float64(n) / all
		s.Air.SetTemperature(22 + 3*math.Sin(9*x) + 0.3*math.Sin(60*x))
		s.Air.SetHumidity(58 - 9*math.Sin(9*x))
		soil.SetTemperature(17 + 2*x)
		switch n {
		case all / 2:
			w.press(t, "oy")
		case all * 3 / 4:
			soil.Fault(sim.NACK)
		}
	}
	w.mu.Lock()
	text := w.text.String()
	w.mu.Unlock()
	w.press(t, "q")
	w.shows(t, leaveScreen)
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	screen := newTerminalScreen(cols, rows)
	screen.write(text)
	seen := screen.text()
	for _, want := range []string{"soil: does not answer", "pump  on ", "done, pump is on", "temperature"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the picture has no %q:\n%s", want, seen)
		}
	}
	if err := os.WriteFile(filepath.Clean(file), screen.svg(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// cell is a character on a terminal with its attributes.
type cell struct {
	char  rune
	style string // parameters of SGR, ECMA-48 section 8.3.117; "" is none
}

// terminalScreen is a terminal that knows what `fieldpost watch` writes to one.
type terminalScreen struct {
	cells    [][]cell
	row, col int
	style    string
}

func newTerminalScreen(cols, rows int) *terminalScreen {
	s := &terminalScreen{cells: make([][]cell, rows)}
	for i := range s.cells {
		s.cells[i] = make([]cell, cols)
	}
	s.clear(0, rows)
	return s
}

func (s *terminalScreen) clear(from, to int) {
	for i := from; i < to; i++ {
		for j := range s.cells[i] {
			s.cells[i][j] = cell{char: ' '}
		}
	}
}

var controlSequence = regexp.MustCompile(`^\x1b\[([0-9;?]*)([A-Za-z])`)

// write takes what a program has written. A sequence that it does not know is a panic.
func (s *terminalScreen) write(text string) {
	for text != "" {
		if m := controlSequence.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			s.control(m[1], m[2])
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		if r < ' ' {
			panic(fmt.Sprintf("not known: %q", r))
		}
		if s.row < len(s.cells) && s.col < len(s.cells[s.row]) {
			s.cells[s.row][s.col] = cell{r, s.style}
		}
		s.col++
	}
}

func (s *terminalScreen) control(parameters, function string) {
	switch function {
	case "h", "l": // modes
	case "J":
		s.clear(0, len(s.cells))
	case "K":
		for j := s.col; j < len(s.cells[s.row]); j++ {
			s.cells[s.row][j] = cell{char: ' '}
		}
	case "H":
		row, col, _ := strings.Cut(parameters, ";")
		s.row, s.col = atLeastOne(row)-1, atLeastOne(col)-1
	case "m":
		s.style = strings.TrimPrefix(parameters, "0")
	default:
		panic(fmt.Sprintf("not known: %s%s", parameters, function))
	}
}

func atLeastOne(text string) int {
	n, _ := strconv.Atoi(text) // "" is 1
	return max(n, 1)
}

func (s *terminalScreen) text() string {
	var b strings.Builder
	for _, line := range s.cells {
		for _, c := range line {
			b.WriteRune(c.char)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// attributes are those of SVG for the parameters of SGR.
var attributes = map[string]string{
	"": `fill="#dfe8e2"`, "1": `fill="#ffffff" font-weight="700"`, "2": `fill="#93a399"`, "33": `fill="#f2c14e"`,
	"1;31": `fill="#ff8b7b" font-weight="700"`, "32": `fill="#9be0ae"`,
}

// svg draws the screen, word by word at their places and the blocks of plots as rectangles, so
// that no font can shift them.
func (s *terminalScreen) svg() []byte {
	const high, wide, margin = 19, 8.2, 16
	w, h := float64(len(s.cells[0]))*wide+2*margin, len(s.cells)*high+2*margin
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%d\" viewBox=\"0 0 %.0f %d\">\n", w, h, w, h)
	fmt.Fprintf(&b, "<rect width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"#16211b\"/>\n")
	fmt.Fprintf(&b, "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"13.5\">\n")
	for i, line := range s.cells {
		top := margin + i*high
		for from := 0; from < len(line); {
			if block := strings.IndexRune("▁▂▃▄▅▆▇█", line[from].char); block >= 0 {
				tall := float64(block/len("▁")+1) * 1.75
				fmt.Fprintf(&b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#9be0ae\"/>\n", margin+float64(from)*wide, float64(top)+17-tall, wide+0.1, tall)
				from++
				continue
			}
			to := from
			for ; to < len(line) && line[to].style == line[from].style && line[to].char != ' ' && !strings.ContainsRune("▁▂▃▄▅▆▇█", line[to].char); to++ {
			}
			if to == from { // a space
				from++
				continue
			}
			word := make([]rune, 0, to-from)
			for _, c := range line[from:to] {
				word = append(word, c.char)
			}
			fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%d\" textLength=\"%.1f\" lengthAdjust=\"spacingAndGlyphs\" %s>%s</text>\n",
				margin+float64(from)*wide, top+14, float64(len(word))*wide, attributes[line[from].style], html.EscapeString(string(word)))
			from = to
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.Bytes()
}
