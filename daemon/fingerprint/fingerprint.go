// Package fingerprint tells one board from another, so that a card that was
// copied, or moved to another board, is found out.
//
// The fingerprint is a hash of what only one board has, as far as the kernel
// shows it to the user of the daemon: the serial number of the device tree (the
// Raspberry Pi's is the processor's; Devicetree Specification 0.4, section
// 3.2, "serial-number"), the product's UUID and serial number of the DMI tables
// (Linux, Documentation/ABI/testing/sysfs-class-dmi), /etc/machine-id
// (machine-id(5)), and the permanent MAC addresses of physical network
// interfaces (Documentation/ABI/testing/sysfs-class-net).
//
// machine-id(5) asks that the id be not given away but hashed with a key of the
// application's own; so is all of it here. The hash itself leaves the board
// neither: it is compared with what the spool's directory says.
package fingerprint

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"fieldpost/daemon/regular"
)

// key makes the hash fieldpost's own: nobody can compare it with another
// program's.
const key = "fieldpost: which board is this"

// most bounds what is read of a file. A serial number has some 16 bytes.
const most = 4 << 10

// files are what is unique to a board, below the root of the file system. The
// device tree is in one of two places; ProcSubset=pid of a unit hides the second.
var files = []string{
	"sys/firmware/devicetree/base/serial-number",
	"proc/device-tree/serial-number",
	"sys/class/dmi/id/product_uuid",
	"sys/class/dmi/id/product_serial",
	"etc/machine-id",
}

// Board returns the fingerprint of the board whose files are below root, "/" for
// this one: 32 hexadecimal digits, or "" where there is nothing to go by. What
// cannot be read does not count, so it changes with the rights of the user. A
// network adapter that is plugged in changes it too. Any goroutine; it reads some
// small files.
func Board(root string) string {
	var found []string
	for _, name := range files {
		if v := value(filepath.Join(root, name)); v != "" {
			found = append(found, filepath.Base(name)+"="+v)
		}
	}
	for _, mac := range addresses(filepath.Join(root, "sys/class/net")) {
		found = append(found, "mac="+mac)
	}
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	h := hmac.New(sha256.New, []byte(key))
	for _, x := range slices.Compact(found) { // one device tree in two places
		fmt.Fprintf(h, "%q\n", x)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// value returns what a file says, or "" where it says nothing that is unique.
func value(path string) string {
	b, err := regular.Read(path, most)
	if err != nil {
		return ""
	}
	v := strings.ToLower(string(bytes.Trim(b, " \t\r\n\x00")))
	if strings.Trim(v, "0f-:. ") == "" || slices.Contains(fillers, v) {
		return ""
	}
	return v
}

// fillers are what makers put in that have no serial number, as many boards have
// the same.
var fillers = []string{"none", "default string", "to be filled by o.e.m.", "not specified", "system serial number", "uninitialized"}

// permanent is an address that the hardware has, and nobody has set or drawn
// by lot (NET_ADDR_PERM, linux/netdevice.h).
const permanent = "0"

// addresses returns the permanent addresses of interfaces that have hardware.
func addresses(dir string) (found []string) {
	links, _ := filepath.Glob(filepath.Join(dir, "*", "device")) // the pattern is sound
	for _, link := range links {
		at := filepath.Dir(link)
		kind, err := regular.Read(filepath.Join(at, "addr_assign_type"), most)
		if err != nil || strings.TrimSpace(string(kind)) != permanent {
			continue
		}
		if mac := value(filepath.Join(at, "address")); mac != "" {
			found = append(found, mac)
		}
	}
	return found
}
