package board

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"
)

// An adapter's functions (linux/i2c.h).
const (
	funcI2C            = 0x00000001
	funcReadByte       = 0x00020000
	funcWriteByte      = 0x00040000
	funcReadByteData   = 0x00080000
	funcWriteByteData  = 0x00100000
	funcReadWordData   = 0x00200000
	funcWriteWordData  = 0x00400000
	funcReadI2CBlock   = 0x04000000
	funcWriteI2CBlock  = 0x08000000
	funcsSMBus         = funcReadByte | funcWriteByte | funcReadByteData | funcWriteByteData | funcReadWordData | funcWriteWordData | funcReadI2CBlock | funcWriteI2CBlock
	smbusWrite         = 0
	smbusRead          = 1
	smbusByte          = 1
	smbusByteData      = 2
	smbusWordData      = 3
	smbusI2CBlockData  = 8
	smbusBlockMax      = 32
	smbusBlockDataSize = smbusBlockMax + 2
)

// smbusData is union i2c_smbus_data, linux/i2c.h: a byte, a word in the
// machine's order, or a length and up to 32 bytes.
type smbusData [smbusBlockDataSize]byte

// smbusCall is struct i2c_smbus_ioctl_data, linux/i2c-dev.h.
type smbusCall struct {
	readWrite uint8
	command   uint8
	size      uint32
	data      *smbusData
}

// smbusPlan is the SMBus call that puts the same bytes on the wire.
type smbusPlan struct {
	needs     uint64
	readWrite uint8
	size      uint32
}

// planSMBus finds the call for a write of w bytes and a read of r bytes. The
// first byte of a write is the command, a chip's register.
func planSMBus(w, r int) (smbusPlan, bool) {
	switch {
	case w == 0 && r == 1:
		return smbusPlan{funcReadByte, smbusRead, smbusByte}, true
	case w == 1 && r == 0:
		return smbusPlan{funcWriteByte, smbusWrite, smbusByte}, true
	case w == 1 && r == 1:
		return smbusPlan{funcReadByteData, smbusRead, smbusByteData}, true
	case w == 2 && r == 0:
		return smbusPlan{funcWriteByteData, smbusWrite, smbusByteData}, true
	case w == 1 && r == 2:
		return smbusPlan{funcReadWordData, smbusRead, smbusWordData}, true
	case w == 3 && r == 0:
		return smbusPlan{funcWriteWordData, smbusWrite, smbusWordData}, true
	case w == 1 && r <= smbusBlockMax:
		return smbusPlan{funcReadI2CBlock, smbusRead, smbusI2CBlockData}, true
	case w > 3 && w <= smbusBlockMax+1 && r == 0:
		return smbusPlan{funcWriteI2CBlock, smbusWrite, smbusI2CBlockData}, true
	}
	return smbusPlan{}, false
}

// viaSMBus makes the transaction on an adapter without plain I2C messages, with an SMBus
// call that is the same on the wire. The address has been claimed.
func (b *i2cBus) viaSMBus(w, r []byte) error {
	plan, ok := planSMBus(len(w), len(r))
	if !ok || b.funcs&plan.needs == 0 {
		return &unableError{w: len(w), r: len(r)}
	}
	m := b.mem
	m.block = smbusData{}
	m.smbus = smbusCall{readWrite: plan.readWrite, size: plan.size, data: &m.block}
	if len(w) > 0 {
		m.smbus.command = w[0]
		m.block.put(plan.size, w[1:], len(r))
	}
	var pin runtime.Pinner
	pin.Pin(m)
	defer pin.Unpin()
	if err := b.file.pointer(reqSMBus, unsafe.Pointer(&m.smbus)); err != nil {
		return err
	}
	return m.block.get(plan.size, r)
}

// put fills in the data to write; for a block also the length to read.
func (d *smbusData) put(size uint32, w []byte, read int) {
	switch {
	case size == smbusI2CBlockData:
		d[0] = byte(len(w) + read)
		copy(d[1:], w)
	case size == smbusWordData && len(w) == 2:
		binary.NativeEndian.PutUint16(d[:], uint16(w[0])|uint16(w[1])<<8)
	default:
		copy(d[:], w)
	}
}

// get returns the data that was read, in the order in which it came over the wire.
func (d *smbusData) get(size uint32, r []byte) error {
	switch {
	case len(r) == 0:
	case size == smbusI2CBlockData:
		if int(d[0]) != len(r) {
			return fmt.Errorf("block of %d bytes came, want %d", d[0], len(r))
		}
		copy(r, d[1:])
	case size == smbusWordData:
		v := binary.NativeEndian.Uint16(d[:])
		r[0], r[1] = byte(v), byte(v>>8)
	default:
		r[0] = d[0]
	}
	return nil
}
