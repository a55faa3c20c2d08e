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
	n := parsed.GPIO
	if parsed.Chip == Label || parsed.Chip == chipName {
		n = parsed.Offset
	}
	if n < 0 || n >= len(b.lines) {
		return nil, fmt.Errorf("find line %q on the %s: %w", name, b, board.ErrAbsent)
	}
	return b.lines[n], nil
}
