package doctor

import (
	"fmt"
	"io"

	"fieldpost/daemon/config"
	"fieldpost/daemon/output"
	"fieldpost/sensors/board"
)

// powerOn prints the lines of a Raspberry Pi's config.txt that have the firmware
// give each output the level at which the daemon will request it. Without a
// board to ask, a line that is written as a Pi's is taken for one.
func powerOn(cfg *config.Config, b board.Board, w io.Writer) {
	first := true
	for _, o := range cfg.Outputs {
		text, ok := powerOnLine(o, b)
		if !ok {
			continue
		}
		if first {
			fmt.Fprintln(w, "note: these lines in /boot/firmware/config.txt, under [all], give outputs their levels while the machine boots:")
			first = false
		}
		fmt.Fprintf(w, "  %-18s # %s\n", text, o.Name)
	}
}

func powerOnLine(o output.Config, b board.Board) (string, bool) {
	level, ok := o.Begins()
	if !ok {
		return "", false
	}
	id, ok := lineOf(o.Pin, b)
	if !ok {
		return "", false
	}
	return board.PowerOn(id, board.OutputConfig{ActiveLow: o.ActiveLow, Drive: o.Drive, Active: bool(level)})
}

// lineOf tells which line a pin is.
func lineOf(pin string, b board.Board) (board.LineID, bool) {
	if b != nil {
		id, err := b.Find(pin)
		return id, err == nil
	}
	l, err := board.ParseLine(pin)
	if err != nil {
		return board.LineID{}, false
	}
	if l.GPIO >= 0 { // the header is wired alike on all models
		return board.LineID{Label: "pinctrl-bcm2711", Offset: l.GPIO}, true
	}
	return board.LineID{Label: l.Chip, Offset: l.Offset}, l.Chip != ""
}
