package doctor

import (
	"fmt"
	"io"
	"net/netip"

	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/output"
	"fieldpost/daemon/systemd"
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

// stopped says that an older systemd lets go of the lines when the unit is stopped, since
// a newer one keeps them driven. version 0 is no systemd, or one that is not known.
func stopped(cfg *config.Config, version int, w io.Writer) {
	if version == 0 || version >= systemd.KeepsLines || len(cfg.Outputs) == 0 {
		return
	}
	fmt.Fprintf(w, "note: systemd %d releases the outputs' lines when the unit is stopped, after they were made safe; %d and newer keep them driven."+
		" Some kernels then let a line fall back to its pull: wire a pull resistor to the safe level of each output, or use Debian 13.\n", version, systemd.KeepsLines)
}

// firewall prints the lines of the unit that let the daemon speak to its broker and to
// nothing else, where the broker is given by its address. A name's addresses change, and
// the name server or the proxy would be cut off too.
func firewall(cfg *config.Config, version int, w io.Writer) {
	at, err := endpoint.Parse(cfg.Broker.Endpoint)
	if err != nil || version == 0 {
		return
	}
	if proxy, err := accessOf(cfg).ProxyFor(at.String()); err != nil || proxy != nil {
		return
	}
	ip, err := netip.ParseAddr(at.Host)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "note: these lines, by `systemctl edit fieldpost`, let the daemon speak to its broker only:\n  [Service]\n  IPAddressDeny=any\n  IPAddressAllow=%s\n", ip.WithZone(""))
}
