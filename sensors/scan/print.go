package scan

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
)

// Print writes the report for people.
func (r Report) Print(w io.Writer) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	line("board   %s", r.Board)
	for _, p := range r.Problem {
		line("        %s", p)
	}
	printHeader(line, r.Header)
	for _, c := range r.Chips {
		printChip(line, c, len(r.Header) > 0)
	}
	for _, bus := range r.Buses {
		printBus(line, bus)
	}
	if len(r.Kernel) > 0 {
		line("")
		line("sensors of the kernel's drivers")
	}
	for _, d := range r.Kernel {
		what := strings.Join(d.Quantities, ", ")
		if d.Problem != "" {
			what = d.Problem
		}
		line("  %-20s %-14s chip: %-8s %s", d.Name, d.At, d.Chip, what)
		if d.Overlay != "" {
			line("  %-20s loaded by: %s", "", d.Overlay)
		}
	}
	printPorts(line, "SPI devices", r.SPI)
	printPorts(line, "serial ports", r.Serial)
	_, err := w.Write(b.Bytes())
	return err
}

// printHeader draws the header, two pins per line, with pin 1 at the top left.
func printHeader(line func(string, ...any), pins []Pin) {
	if len(pins) == 0 {
		return
	}
	line("")
	for i := 0; i+1 < len(pins); i += 2 {
		l, r := pins[i], pins[i+1]
		row := fmt.Sprintf("%18.18s  %-6s %2d | %-2d %-6s  %.18s", l.Use, l.Name, l.Pin, r.Pin, r.Name, r.Use)
		line("%s", strings.TrimRight(row, " "))
	}
}

// printChip lists a chip's lines; if the header was drawn, only those in use.
func printChip(line func(string, ...any), c Chip, short bool) {
	line("")
	if c.Problem != "" {
		line("GPIO chip %s: %s", c.Device, c.Problem)
		return
	}
	line("GPIO chip %s (%s), %d lines", c.Device, c.Label, len(c.Lines))
	for _, l := range c.Lines {
		if !l.Used && (short || l.Name == "") {
			continue
		}
		use := "free"
		if l.Used {
			direction := "input"
			if l.Output {
				direction = "output"
			}
			holder := l.Holder
			if holder == "" {
				holder = "a program that gave no name"
			}
			use = direction + ", held by " + holder
		}
		line("  %3d %-12s %s", l.Offset, l.Name, use)
	}
}

func printBus(line func(string, ...any), b Bus) {
	line("")
	name := b.Name
	if b.Adapter != "" {
		name += " (" + b.Adapter + ")"
	}
	if b.Problem != "" {
		line("%s: %s", name, b.Problem)
	} else if len(b.Found) == 0 {
		line("%s: nothing answers", name)
	} else {
		line("%s", name)
	}
	for _, f := range b.Found {
		line("  0x%02x  %s", f.Address, f.text())
	}
}

// text describes what is at an address.
func (f Found) text() string {
	switch {
	case f.Driver != "":
		return "UU, belongs to the kernel's driver " + f.Driver + "; not probed"
	case f.Sensor != "":
		return f.Chip + ", which the running daemon reads as " + f.Sensor + "; not probed"
	case f.Note != "":
		return f.Note
	case f.Chip == "" && len(f.Or) == 0:
		return "answers; " + cmp.Or(expanderHint(f.Address), "fieldpost knows no chip with this address")
	case f.Chip == "":
		return "answers, and may be " + strings.Join(f.Or, ", ")
	case len(f.Or) > 0:
		return f.Chip + ", or " + strings.Join(f.Or, ", ")
	}
	return f.Chip
}

func printPorts(line func(string, ...any), what string, ports []string) {
	if len(ports) > 0 {
		line("")
		line("%s: %s", what, strings.Join(ports, ", "))
	}
}
