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
	n := parsed.GPIO
	if parsed.Chip == Label || parsed.Chip == chipName {
		n = parsed.Offset
	}
	if n < 0 || n >= len(b.lines) {
		return nil, fmt.Errorf("find line %q on the %s: %w", name, b, board.ErrAbsent)
	}
	return b.lines[n], nil
}
