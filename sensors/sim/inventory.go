package sim

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"fieldpost/sensors/board"
)

var _ board.Inventory = (*Board)(nil)

// Adapters lists the buses, by name.
func (b *Board) Adapters() []board.Adapter {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []board.Adapter
	for _, bus := range b.buses {
		bus.mu.Lock()
		all = append(all, board.Adapter{Bus: bus.name, Name: bus.adapter})
		bus.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b board.Adapter) int { return cmp.Compare(a.Bus, b.Bus) })
	return all
}

// Chips returns the board's own GPIO chip and those of its expanders.
func (b *Board) Chips() []board.ChipInfo {
	all := []board.ChipInfo{b.chip(Label, chipName, b.lines)}
	b.mu.Lock()
	expanders := slices.Clone(b.expanders)
	b.mu.Unlock()
	for _, e := range expanders {
		all = append(all, b.chip(e.label, e.chip, e.lines))
	}
	return all
}

func (b *Board) chip(label, device string, lines []*Line) board.ChipInfo {
	c := board.ChipInfo{Label: label, Device: device}
	for _, l := range lines {
		holder, used := b.Holder(l.id)
		b.mu.Lock()
		c.Lines = append(c.Lines, board.LineInfo{Name: l.id.Name, Used: used, Holder: holder, Output: l.out != nil})
		b.mu.Unlock()
	}
	return c
}

// SPIs lists the SPI devices.
func (p *ports) SPIs() []string { return p.names("spidev") }

// Serials lists the serial ports.
func (p *ports) Serials() []string { return p.names("tty") }

// names lists the devices whose names begin with prefix.
func (p *ports) names(prefix string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.byName)), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}
