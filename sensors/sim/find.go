package sim

import (
	"fmt"

	"fieldpost/sensors/board"
)

// Find returns the line that a name means; see [board.ParseLine]. The board's
// lines have the names and numbers of a Raspberry Pi's header.
func (b *Board) Find(line string) (board.LineID, error) {
	l, err := b.line(line)
	if err != nil {
		return board.LineID{}, err
	}
	return l.id, nil
}

func (b *Board) line(name string) (*Line, error) {
	parsed, err := board.ParseLine(name)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.expanders {
		if (parsed.Chip == e.label || parsed.Chip == e.chip) && parsed.Offset < len(e.lines) {
			return e.lines[parsed.Offset], nil
		}
	}
	if l := b.added[name]; l != nil {
		return l, nil
	}
	n := parsed.GPIO
	if parsed.Chip == Label || parsed.Chip == chipName {
		n = parsed.Offset
	}
	if n < 0 || n >= len(b.lines) {
		return nil, fmt.Errorf("find line %q on the %s: %w", name, b, board.ErrAbsent)
	}
	return b.lines[n], nil
}

// AddLine makes sure that the board has the line that a configuration names: GPIO40, PIN_LED,
// pinctrl-rp1:17. A line that the Raspberry Pi's names make one with a line that is there is
// that one; any other is added, on the board's own chip.
func AddLine(b *Board, name string) error {
	if _, err := b.line(name); err == nil {
		return nil
	}
	parsed, err := board.ParseLine(name)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if board.SameLine(name, l.id.Name) {
			b.added[name] = l
			return nil
		}
	}
	called := parsed.Name
	if parsed.GPIO >= 0 {
		called = fmt.Sprintf("GPIO%d", parsed.GPIO)
	} else if called == "" {
		called = name
	}
	l := &Line{b: b, id: board.LineID{Label: Label, Chip: chipName, Offset: len(b.lines), Name: called}, pull: board.PullDown}
	b.lines = append(b.lines, l)
	b.added[name], b.added[called] = l, l
	return nil
}
