// Package fingerprint tells one board from another, to detect a card that was copied or moved
// to another board.
//
// The fingerprint is a hash of what is unique to a board, as far as the kernel shows it to the
// daemon's user: the serial number of the device tree (the
// Raspberry Pi's is the processor's; Devicetree Specification 0.4, section
// 3.2, "serial-number"), the product's UUID and serial number of the DMI tables
// (Linux, Documentation/ABI/testing/sysfs-class-dmi), /etc/machine-id
// (machine-id(5)), and the permanent MAC addresses of physical network
// interfaces (Documentation/ABI/testing/sysfs-class-net).
//
// machine-id(5) asks applications not to expose the id but to hash it with a key of their own;
// here that is done with all of it. The hash does not leave the board either: it is only
// compared with the one in the spool's directory.
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

// key makes the hash specific to fieldpost, so that it cannot be compared with another
// program's.
const key = "fieldpost: which board is this"

// most bounds how much of a file is read. A serial number has some 16 bytes.
const most = 4 << 10

// files have what is unique to a board, below the root of the file system. The device tree is
// in one of two places; ProcSubset=pid of a unit hides the second one.
var files = []string{
	"sys/firmware/devicetree/base/serial-number",
	"proc/device-tree/serial-number",
	"sys/class/dmi/id/product_uuid",
	"sys/class/dmi/id/product_serial",
	"etc/machine-id",
}

// Board returns the fingerprint of the board whose files are below root, "/" for
// this one: 32 hexadecimal digits, or "" if nothing unique is found. Files that cannot be read
// do not count, so the fingerprint depends on the user's rights. A new network adapter changes
// it too. Any goroutine; it reads some small files.
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

// Serial returns the serial number of the board whose files are below root, "/" for this one:
// of the device tree, or else of the DMI tables. It is in lower case, without blanks, or "" if
// the board has none. Any goroutine; it reads some small files.
func Serial(root string) string {
	for _, name := range files {
		if strings.HasSuffix(name, "serial-number") || strings.HasSuffix(name, "product_serial") {
			if v := value(filepath.Join(root, name)); v != "" {
				return strings.ReplaceAll(v, " ", "")
			}
		}
	}
	return ""
}

// value returns a file's content, or "" if it is not unique to a board.
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

// fillers are values that manufacturers use instead of a serial number; many boards share them.
var fillers = []string{"none", "default string", "to be filled by o.e.m.", "not specified", "system serial number", "uninitialized"}

// permanent marks an address of the hardware, as opposed to one that was set or is random
// (NET_ADDR_PERM, linux/netdevice.h).
const permanent = "0"

// addresses returns the permanent addresses of interfaces that have hardware.
func addresses(dir string) (found []string) {
	links, _ := filepath.Glob(filepath.Join(dir, "*", "device")) // the pattern is valid
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
