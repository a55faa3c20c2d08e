package daemon

import (
	"fmt"
	"slices"

	"fieldpost/daemon/access"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
)

// openFiles is what other users of this machine could read or change of what a
// daemon rests on, by the subject of the fault.
type openFiles map[string][]access.Open

// openSubjects are the subjects, in the order in which they are told.
var openSubjects = []string{"configuration", broker, "runtime directory", "spool"}

// findOpen looks at the files and directories of a configuration; runtime is the
// directory of the crash record, "" for none. It waits for the disk.
func findOpen(cfg *config.Config, runtime string) openFiles {
	found := openFiles{}
	add := func(subject string, all []access.Open) {
		for _, o := range all {
			if !slices.Contains(found[subject], o) {
				found[subject] = append(found[subject], o)
			}
		}
	}
	add("configuration", access.File(cfg.File))
	add(broker, access.Secret(cfg.Broker.Key))
	add(broker, access.File(cfg.Broker.Certificate))
	add(broker, access.File(cfg.Broker.CA))
	add("runtime directory", access.Directory(runtime))
	add("spool", access.Directory(cfg.Spool.Dir))
	return found
}

// tellOpen raises a fault for each subject of which something is open to others
// as was last seen, and clears the others.
func (d *Daemon) tellOpen() {
	found, _ := d.open.Last()
	for _, subject := range openSubjects {
		all := found[subject]
		if len(all) == 0 {
			d.health.Clear(health.OpenToOthers, subject)
			continue
		}
		detail := all[0].String()
		if n := len(all) - 1; n > 0 {
			detail += fmt.Sprintf("; and %d more, which `fieldpost check` names", n)
		}
		d.health.Raise(health.OpenToOthers, subject, detail)
	}
}
