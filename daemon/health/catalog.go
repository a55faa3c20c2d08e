package health

import (
	"crypto/sha256"
	"encoding/hex"
)

// MessageID is the journal's MESSAGE_ID of a fault that is raised, 32 hexadecimal
// digits (systemd.journal-fields(7)): the key of its entry in the catalog, by which
// `journalctl -x` explains it and `journalctl MESSAGE_ID=` finds it. It is made of the
// code, so it is the same in every version.
func (c Code) MessageID() string { return messageID("fault " + string(c)) }

// The MESSAGE_IDs of what is no fault.
var (
	ClearedID = messageID("fault cleared")
	StartedID = messageID("started")
	StoppedID = messageID("stopped")
)

// messageID makes an identifier of a name, as 128 bits of its hash with the bits of a
// random UUID set (RFC 9562, version 8: made in a way of one's own).
func messageID(name string) string {
	sum := sha256.Sum256([]byte("fieldpost: " + name))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id)
}
