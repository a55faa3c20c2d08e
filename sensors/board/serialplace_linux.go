package board

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// serialPlaces remembers at which USB socket each serial port was.
//
// The kernel gives an adapter the lowest free number when it is plugged in, or when a weak
// supply or a disturbance has reset it. The number that it had is free only after the last
// handle on the old port was closed, and the reader of a port finds out that it is gone with
// its next reading. So after a reset ttyUSB0 is often ttyUSB1, until somebody unplugs it
// again; and of two adapters, each may have the other's number. Within the process a name
// means the socket at which it was opened first, as long as there is an adapter in it.
//
// Sources: Linux, drivers/usb/serial/usb-serial.c, destroy_serial, and
// drivers/usb/class/cdc-acm.c, acm_port_destruct, where the number becomes free;
// Documentation/ABI/testing/sysfs-bus-usb.
//
// The zero value is ready. Any goroutine.
type serialPlaces struct {
	mu sync.Mutex
	of map[string]string // by the configured name; as many as a configuration has names
}

// find returns the present name of a port.
func (p *serialPlaces) find(root, name string) string {
	p.mu.Lock()
	place := p.of[name]
	p.mu.Unlock()
	if place == "" || placeOfPort(root, name) == place {
		return name
	}
	ports, _ := os.ReadDir(filepath.Join(root, "sys/class/tty")) // none if it cannot be listed
	for _, e := range ports {
		if isUSBPort(e.Name()) && placeOfPort(root, e.Name()) == place {
			return e.Name()
		}
	}
	return name // the adapter is away, or at another socket
}

// note remembers where a port is that was opened under its present name.
func (p *serialPlaces) note(root, name, present string) {
	if !isUSBPort(name) {
		return // a link is the user's own choice of what stays the same
	}
	place := placeOfPort(root, present)
	if place == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]string{}
	}
	p.of[name] = place
}

// isUSBPort reports whether a name is one that the kernel gives to a USB adapter.
func isUSBPort(name string) bool {
	return strings.HasPrefix(name, "ttyUSB") || strings.HasPrefix(name, "ttyACM")
}

// placeOfPort returns the place of a port: the USB interface, which is named for its socket,
// and the port's number on an adapter with several ports. It is "" if there is no such port.
func placeOfPort(root, name string) string {
	device, err := filepath.EvalSymlinks(filepath.Join(root, "sys/class/tty", name, "device"))
	if err != nil {
		return ""
	}
	number, _ := os.ReadFile(filepath.Join(device, "port_number")) // ttyACM has none
	if filepath.Base(device) == name {
		device = filepath.Dir(device)
	}
	return device + " " + strings.TrimSpace(string(number))
}
