package doctor

import (
	"fmt"
	"io"
	"net/netip"

	"fieldpost/daemon/config"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/output"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/visible"
	"fieldpost/sensors/board"
)

// powerOn prints the lines of a Raspberry Pi's config.txt that make the firmware set each
// output to the level at which the daemon will request it. If b is nil, pins that are named
// like those of a Pi are assumed to be a Pi's.
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

// powerOnLine returns the line for one output, and whether there is one.
func powerOnLine(o output.Config, b board.Board) (string, bool) {
	level, ok := o.Begins()
	if !ok || o.PWM != "" {
		return "", false
	}
	id, ok := lineOf(o.Pin, b)
	if !ok {
		return "", false
	}
	return board.PowerOn(id, board.OutputConfig{ActiveLow: o.ActiveLow, Drive: o.Drive, Active: level == output.On})
}

// lineOf returns the line of a pin.
func lineOf(pin string, b board.Board) (board.LineID, bool) {
	if b != nil {
		id, err := b.Find(pin)
		return id, err == nil
	}
	l, err := board.ParseLine(pin)
	if err != nil {
		return board.LineID{}, false
	}
	if l.GPIO >= 0 { // the header has the same wiring on all models
		return board.LineID{Label: "pinctrl-bcm2711", Offset: l.GPIO}, true
	}
	return board.LineID{Label: l.Chip, Offset: l.Offset}, l.Chip != ""
}

// stopped notes that an older systemd releases the lines when the unit is stopped; a newer
// one keeps them driven. version is 0 if there is no systemd or its version is unknown.
func stopped(cfg *config.Config, version int, w io.Writer) {
	if version == 0 || version >= systemd.KeepsLines || len(cfg.Outputs) == 0 {
		return
	}
	fmt.Fprintf(w, "note: systemd %d releases the outputs' lines when the unit is stopped, after it has made them safe; %d and newer keep them driven."+
		" Some kernels then let a line fall back to its pull: wire a pull resistor to the safe level of each output, or use Debian 13.\n", version, systemd.KeepsLines)
}

// volatile warns if the spool directory does not survive a reboot or a power cut.
func volatile(cfg *config.Config, w io.Writer) {
	if why := durable.Volatile(cfg.Spool.Dir); why != "" {
		fmt.Fprintf(w, "warning: spool.dir: %s is %s: a reboot or a power cut loses the readings that wait for the broker, and the ids of orders, so that an order that the broker sends again acts again."+
			" Mount a file system of a disk there, which stays writable.\n", visible.Text(cfg.Spool.Dir), why)
	}
}

// firewall prints the lines for the unit that restrict the daemon's traffic to its broker, if
// the broker is configured by address. With a name they would not work: its addresses change,
// and the name server or the proxy would be blocked too.
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
	fmt.Fprintf(w, "note: these lines, added with `systemctl edit fieldpost`, let the daemon reach only its broker:\n  [Service]\n  IPAddressDeny=any\n  IPAddressAllow=%s\n", ip.WithZone(""))
	said := ""
	for _, x := range []struct{ address, does string }{{cfg.Local.Metrics, "reads the metrics"}, {cfg.Local.Listen, "opens the web page"}} {
		line := "  and an IPAddressAllow= for each machine that " + x.does + "\n"
		switch at, err := netip.ParseAddrPort(x.address); {
		case err != nil: // none
			continue
		case at.Addr().IsLoopback():
			line = "  IPAddressAllow=localhost\n"
		}
		if line != said {
			fmt.Fprint(w, line)
		}
		said = line
	}
}

// plainPage warns of a web page for other machines: it is not encrypted.
func plainPage(cfg *config.Config, w io.Writer) {
	if at, err := netip.ParseAddrPort(cfg.Local.Listen); err == nil && !at.Addr().IsLoopback() {
		fmt.Fprintf(w, "warning: local.listen: %s is plain HTTP, so whoever listens in that network sees the token, and can order with it; "+
			"use 127.0.0.1 with `ssh -L` or behind a proxy that has TLS and asks for a client certificate (deploy/README.md, \"The web page\")\n", at)
	}
}
