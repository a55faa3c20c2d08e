package board

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"periph.io/x/conn/v3/physic"
)

// The requests of i2c-dev, linux/i2c-dev.h.
const (
	reqTimeout = 0x702 // I2C_TIMEOUT, in units of 10 ms
	reqSlave   = 0x703 // I2C_SLAVE
	reqFuncs   = 0x705 // I2C_FUNCS
	reqRDWR    = 0x707 // I2C_RDWR
	reqSMBus   = 0x720 // I2C_SMBUS
)

const (
	timeoutUnits = 10     // 100 ms: the longest transaction on a bus that hangs
	msgRead      = 0x0001 // I2C_M_RD
	maxTransfer  = 8192   // the longest message of i2c-dev
)

// i2cMessage is struct i2c_msg, linux/i2c.h.
type i2cMessage struct {
	addr   uint16
	flags  uint16
	length uint16
	buf    *byte
}

// i2cTransfer is struct i2c_rdwr_ioctl_data, linux/i2c-dev.h.
type i2cTransfer struct {
	messages *i2cMessage
	count    uint32
}

// i2cFile is an open i2c-dev device. Tests replace it.
type i2cFile interface {
	// value makes an ioctl request with a number as its argument.
	value(req uint, arg uintptr) error
	// pointer makes an ioctl request with a pointer to memory that must not move.
	pointer(req uint, arg unsafe.Pointer) error
	Close() error
}

// i2cBus implements periph's i2c.BusCloser on one of the kernel's adapters.
//
// The memory that it passes to the kernel is on the heap and pinned while the kernel may
// use it. A goroutine's stack moves when it grows, and the kernel would write to the old
// place.
type i2cBus struct {
	name  string // "i2c-1"
	root  string // where /sys is
	funcs uint64

	mu   sync.Mutex // one transaction at a time
	file i2cFile    // nil once closed
	mem  *i2cMemory
}

// i2cMemory is what the kernel reads and writes in a transaction.
type i2cMemory struct {
	messages [2]i2cMessage
	transfer i2cTransfer
	smbus    smbusCall
	block    smbusData
	w, r     []byte
}

// newI2CBus asks the adapter for its functions and sets its timeout.
func newI2CBus(name string, f i2cFile) (*i2cBus, error) {
	b := &i2cBus{name: name, file: f, mem: &i2cMemory{}}
	funcs := new(uintptr) // I2C_FUNCS writes an unsigned long
	var pin runtime.Pinner
	pin.Pin(funcs)
	err := f.pointer(reqFuncs, unsafe.Pointer(funcs))
	pin.Unpin()
	if err != nil {
		return nil, fmt.Errorf("ask what bus %s can do: %w", name, err)
	}
	b.funcs = uint64(*funcs)
	if b.funcs&(funcI2C|funcsSMBus) == 0 {
		return nil, fmt.Errorf("bus %s does neither I2C nor SMBus transactions (functions 0x%08x)", name, b.funcs)
	}
	if err := f.value(reqTimeout, timeoutUnits); err != nil {
		return nil, fmt.Errorf("bound the transactions of bus %s to 100 ms: %w", name, err)
	}
	return b, nil
}

// String returns the bus's name.
func (b *i2cBus) String() string { return b.name }

// Tx writes w, then reads r, in one transaction with a repeated start. One of them may be
// empty.
func (b *i2cBus) Tx(addr uint16, w, r []byte) error {
	if err := b.check(addr, w, r); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return fmt.Errorf("bus %s is closed", b.name)
	}
	err := b.claim(addr)
	switch {
	case err != nil:
	case b.funcs&funcI2C != 0:
		err = b.plain(addr, w, r)
	default:
		err = b.viaSMBus(w, r)
	}
	return b.explain(addr, err)
}

// Claim returns an [*OwnedError] if a kernel driver owns the address.
func (b *i2cBus) Claim(addr uint16) error {
	if err := b.check(addr, []byte{0}, nil); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return fmt.Errorf("bus %s is closed", b.name)
	}
	return b.explain(addr, b.claim(addr))
}

// claim selects the address with I2C_SLAVE, which the kernel refuses if one of its
// drivers owns it. Plain messages do not check that. claim is called for each
// transaction, because a driver may be loaded later; it takes a thousandth of a
// transaction's time.
func (b *i2cBus) claim(addr uint16) error {
	if err := b.file.value(reqSlave, uintptr(addr)); err != nil {
		return &slaveError{err}
	}
	return nil
}

func (b *i2cBus) check(addr uint16, w, r []byte) error {
	switch {
	case addr < FirstAddress || addr > LastAddress:
		return fmt.Errorf("address 0x%02x on %s: want 0x%02x to 0x%02x", addr, b.name, FirstAddress, LastAddress)
	case len(w) == 0 && len(r) == 0:
		return fmt.Errorf("transaction with 0x%02x on %s: nothing to write and nothing to read", addr, b.name)
	case len(w) > maxTransfer || len(r) > maxTransfer:
		return fmt.Errorf("transaction with 0x%02x on %s: write of %d and read of %d bytes, the kernel takes at most %d of each", addr, b.name, len(w), len(r), maxTransfer)
	}
	return nil
}

// plain makes a transaction of one or two I2C messages.
func (b *i2cBus) plain(addr uint16, w, r []byte) error {
	m := b.mem
	m.w = append(m.w[:0], w...)
	m.r = append(m.r[:0], r...)
	var pin runtime.Pinner
	defer pin.Unpin()
	n := 0
	add := func(flags uint16, p []byte) {
		if len(p) == 0 {
			return
		}
		pin.Pin(&p[0])
		m.messages[n] = i2cMessage{addr: addr, flags: flags, length: uint16(len(p)), buf: &p[0]}
		n++
	}
	add(0, m.w)
	add(msgRead, m.r)
	pin.Pin(m)
	m.transfer = i2cTransfer{messages: &m.messages[0], count: uint32(n)}
	if err := b.file.pointer(reqRDWR, unsafe.Pointer(&m.transfer)); err != nil {
		return err
	}
	copy(r, m.r)
	return nil
}

// SetSpeed returns an error: the kernel sets the clock when it starts.
func (b *i2cBus) SetSpeed(f physic.Frequency) error {
	return fmt.Errorf("set the clock of bus %s to %s: Linux fixes it when it starts (on a Raspberry Pi with dtparam=i2c_arm_baudrate=... in config.txt)", b.name, f)
}

// Close closes the device after the present transaction has ended.
func (b *i2cBus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return errors.New("bus " + b.name + " is closed already")
	}
	f := b.file
	b.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close bus %s: %w", b.name, err)
	}
	return nil
}
