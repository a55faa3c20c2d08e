package board

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// fakeAdapter replaces the kernel: it decodes the structures that an adapter driver would
// get, and simulates chips with 256 registers.
type fakeAdapter struct {
	t         *testing.T
	funcs     uint64
	chips     map[uint16]*[256]byte
	fail      map[uint]error // by request
	timeout   uintptr
	slave     uint16
	owned     map[uint16]bool // by kernel drivers
	transfers int
	closed    bool
	smbus     []uint32 // the sizes of the SMBus calls made
	inside    atomic.Int32
}

func (f *fakeAdapter) value(req uint, arg uintptr) error {
	if err := f.fail[req]; err != nil {
		return err
	}
	switch req {
	case reqTimeout:
		f.timeout = arg
	case reqSlave:
		if f.owned[uint16(arg)] {
			return unix.EBUSY
		}
		f.slave = uint16(arg)
	default:
		f.t.Errorf("request 0x%x with a number", req)
	}
	return nil
}

func (f *fakeAdapter) pointer(req uint, arg unsafe.Pointer) error {
	if f.inside.Add(1) != 1 {
		f.t.Error("two transactions at once")
	}
	defer f.inside.Add(-1)
	f.stays(arg)
	if err := f.fail[req]; err != nil {
		return err
	}
	switch req {
	case reqFuncs:
		*(*uintptr)(arg) = uintptr(f.funcs)
		return nil
	case reqRDWR:
		return f.transfer((*i2cTransfer)(arg))
	case reqSMBus:
		return f.call((*smbusCall)(arg))
	}
	f.t.Errorf("request 0x%x with memory", req)
	return nil
}

func (f *fakeAdapter) Close() error {
	f.closed = true
	return f.fail[0]
}

// stays checks that memory does not move when the stack grows and the garbage collector
// runs. It compares the address as a number, because a pointer into a stack would be
// adjusted.
func (f *fakeAdapter) stays(p unsafe.Pointer) {
	f.t.Helper()
	before := uintptr(p)
	growStack(64)
	runtime.GC()
	if uintptr(p) != before {
		f.t.Error("memory handed to the kernel moved")
	}
}

func growStack(n int) byte {
	var frame [4096]byte
	if n > 0 {
		frame[n] = growStack(n - 1)
	}
	return frame[n]
}

func (f *fakeAdapter) transfer(x *i2cTransfer) error {
	f.transfers++
	if x.count < 1 || x.count > 2 {
		f.t.Fatalf("%d messages", x.count)
	}
	messages := unsafe.Slice(x.messages, x.count)
	register := byte(0)
	for i, m := range messages {
		f.stays(unsafe.Pointer(m.buf))
		chip := f.chips[m.addr]
		if chip == nil {
			return unix.EREMOTEIO
		}
		data := unsafe.Slice(m.buf, int(m.length))
		switch {
		case len(data) == 0:
			f.t.Errorf("message %d is empty", i)
		case m.flags == msgRead:
			for k := range data {
				data[k] = chip[register]
				register++
			}
		case m.flags == 0 && i == 0:
			register = data[0]
			for _, v := range data[1:] {
				chip[register] = v
				register++
			}
		default:
			f.t.Errorf("message %d has flags 0x%04x", i, m.flags)
		}
	}
	return nil
}

// call does what the kernel does for an SMBus request.
func (f *fakeAdapter) call(c *smbusCall) error {
	f.smbus = append(f.smbus, c.size)
	f.stays(unsafe.Pointer(c.data))
	chip := f.chips[f.slave]
	if chip == nil {
		return unix.ENXIO
	}
	word := (*uint16)(unsafe.Pointer(c.data))
	length := int(c.data[0])
	switch {
	case c.size == smbusByte && c.readWrite == smbusRead:
		c.data[0] = chip[0]
	case c.size == smbusByte:
		chip[0] = c.command
	case c.size == smbusByteData && c.readWrite == smbusRead:
		c.data[0] = chip[c.command]
	case c.size == smbusByteData:
		chip[c.command] = c.data[0]
	case c.size == smbusWordData && c.readWrite == smbusRead:
		*word = uint16(chip[c.command]) | uint16(chip[c.command+1])<<8
	case c.size == smbusWordData:
		chip[c.command], chip[c.command+1] = byte(*word), byte(*word>>8)
	case c.size == smbusI2CBlockData && c.readWrite == smbusRead:
		copy(c.data[1:1+length], chip[c.command:])
	case c.size == smbusI2CBlockData:
		copy(chip[c.command:], c.data[1:1+length])
	default:
		f.t.Errorf("SMBus call of size %d", c.size)
	}
	return nil
}

// newFake opens a bus on a fake adapter with one chip at 0x76. Each of its registers
// contains its own number.
func newFake(t *testing.T, funcs uint64) (*i2cBus, *fakeAdapter) {
	t.Helper()
	chip := new([256]byte)
	for i := range chip {
		chip[i] = byte(i)
	}
	f := &fakeAdapter{t: t, funcs: funcs, chips: map[uint16]*[256]byte{0x76: chip}, fail: map[uint]error{}}
	b, err := newI2CBus("i2c-1", f)
	if err != nil {
		t.Fatal(err)
	}
	return b, f
}

var _ i2c.BusCloser = (*i2cBus)(nil)

func TestI2CTransactions(t *testing.T) {
	for _, c := range []struct {
		name string
		w    []byte
		r    int
		want []byte // the bytes read
		size uint32 // the SMBus call that does the same; 0 if there is none
	}{
		{"read only", nil, 1, []byte{0}, smbusByte},
		{"select register", []byte{5}, 0, nil, smbusByte},
		{"read register", []byte{0xd0}, 1, []byte{0xd0}, smbusByteData},
		{"read word", []byte{0x10}, 2, []byte{0x10, 0x11}, smbusWordData},
		{"read block", []byte{0x88}, 26, sequence(0x88, 26), smbusI2CBlockData},
		{"read longest block", []byte{0x20}, 32, sequence(0x20, 32), smbusI2CBlockData},
		{"write register", []byte{0x20, 0xaa}, 0, nil, smbusByteData},
		{"write word", []byte{0x20, 0xaa, 0xbb}, 0, nil, smbusWordData},
		{"write block", append([]byte{0x40}, sequence(0x99, 20)...), 0, nil, smbusI2CBlockData},
		{"read two without a command", nil, 2, []byte{0, 1}, 0},
		{"read too long a block", []byte{0x20}, 33, sequence(0x20, 33), 0},
		{"write and read", []byte{0x20, 0x01}, 2, []byte{0x21, 0x22}, 0},
		{"write too long a block", append([]byte{0x40}, sequence(0, 33)...), 0, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, kernel := newFake(t, funcI2C|funcsSMBus)
			got := make([]byte, c.r)
			if err := plain.Tx(0x76, c.w, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, c.want) {
				t.Errorf("read % x, want % x", got, c.want)
			}
			if len(kernel.smbus) != 0 {
				t.Error("SMBus call on an adapter that does I2C")
			}

			narrow, narrowKernel := newFake(t, funcsSMBus)
			got = make([]byte, c.r)
			err := narrow.Tx(0x76, c.w, got)
			if c.size == 0 {
				if err == nil || !strings.Contains(err.Error(), "SMBus only") {
					t.Errorf("on SMBus: %v, want a refusal", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, c.want) {
				t.Errorf("on SMBus: read % x, want % x", got, c.want)
			}
			if len(narrowKernel.smbus) != 1 || narrowKernel.smbus[0] != c.size {
				t.Errorf("SMBus calls %v, want one of size %d", narrowKernel.smbus, c.size)
			}
			if len(c.w) > 1 && *kernel.chips[0x76] != *narrowKernel.chips[0x76] {
				t.Error("SMBus wrote other registers than I2C")
			}
		})
	}
}

// sequence returns n consecutive bytes.
func sequence(from byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = from + byte(i)
	}
	return p
}

func TestI2CErrors(t *testing.T) {
	for _, c := range []struct {
		errno  unix.Errno
		text   string
		absent bool
	}{
		{unix.EREMOTEIO, "no acknowledge from 0x76 on i2c-1", true},
		{unix.ENXIO, "no acknowledge from 0x76 on i2c-1", true},
		{unix.ETIMEDOUT, "bus i2c-1 is stuck", false},
		{unix.EIO, "with 0x76 on i2c-1 broke off", false},
		{unix.EAGAIN, "arbitration lost on i2c-1", false},
		{unix.EOPNOTSUPP, "cannot make this transaction", false},
		{unix.ENODEV, "unplugged", true},
		{unix.ENOMEM, "transaction with 0x76 on i2c-1", false},
	} {
		for _, request := range []uint{reqRDWR, reqSMBus} {
			funcs := uint64(funcI2C)
			if request == reqSMBus {
				funcs = funcsSMBus
			}
			b, f := newFake(t, funcs)
			f.fail[request] = c.errno
			r := []byte{0xee}
			err := b.Tx(0x76, []byte{0xd0}, r)
			if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v: %v, want the errno and %q", c.errno, err, c.text)
			}
			if errors.Is(err, ErrAbsent) != c.absent {
				t.Errorf("%v: %v, want absent %v", c.errno, err, c.absent)
			}
			if r[0] != 0xee {
				t.Errorf("%v: buffer was written to: %x", c.errno, r)
			}
		}
	}
}

func TestI2CAbsentChip(t *testing.T) {
	for _, funcs := range []uint64{funcI2C, funcsSMBus} {
		b, _ := newFake(t, funcs)
		err := b.Tx(0x40, []byte{0}, make([]byte, 1))
		if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "no acknowledge from 0x40 on i2c-1") {
			t.Errorf("%v, want an absent chip", err)
		}
	}
}

// An address that a kernel driver owns is refused before anything is sent, on both kinds
// of adapters, and the error names the driver.
func TestI2CAddressOfKernelDriver(t *testing.T) {
	root := t.TempDir()
	device := filepath.Join(root, "sys/bus/i2c/devices/1-0048")
	if err := os.MkdirAll(device, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../bus/i2c/drivers/tmp102", filepath.Join(device, "driver")); err != nil {
		t.Fatal(err)
	}
	for _, funcs := range []uint64{funcI2C, funcsSMBus} {
		b, f := newFake(t, funcs)
		b.root = root
		f.chips[0x48] = new([256]byte)
		f.owned = map[uint16]bool{0x48: true, 0x49: true}
		for addr, want := range map[uint16]string{
			0x48: "address 0x48 on i2c-1 is used by the kernel driver tmp102; to unbind it until the next reboot: echo 1-0048 | sudo tee /sys/bus/i2c/drivers/tmp102/unbind",
			0x49: "address 0x49 on i2c-1 is used by a kernel driver, on this bus or on one behind it",
		} {
			var owned *OwnedError
			for verb, err := range map[string]error{"write": b.Tx(addr, []byte{1, 0x03, 0x90}, nil), "claim": b.Claim(addr)} {
				if !errors.As(err, &owned) || !errors.Is(err, unix.EBUSY) || err.Error() != want {
					t.Errorf("%s: %v, want %q", verb, err, want)
				}
			}
		}
		if *f.chips[0x48] != [256]byte{} || f.transfers+len(f.smbus) > 0 {
			t.Error("something went over the wire")
		}
		if err := b.Claim(0x76); err != nil {
			t.Errorf("an address that is free: %v", err)
		}
		f.owned = nil // the driver was unbound
		if err := b.Tx(0x48, []byte{1, 0x03, 0x90}, nil); err != nil {
			t.Errorf("once it is free: %v", err)
		}
		f.owned = map[uint16]bool{0x48: true} // and bound again, with the bus open
		if err := b.Tx(0x48, []byte{1, 0x60, 0x90}, nil); !errors.Is(err, unix.EBUSY) {
			t.Errorf("once it is bound again: %v", err)
		}
		if err := b.Claim(0x78); err == nil || !strings.Contains(err.Error(), "want 0x03 to 0x77") {
			t.Errorf("a reserved address: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Claim(0x76); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("on a closed bus: %v", err)
		}
	}
}

func TestKernelDriver(t *testing.T) {
	if got := KernelDriver(t.TempDir(), "i2c-1", 0x48); got != "" {
		t.Errorf("nothing there: %q", got)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "sys/bus/i2c/devices/1-0048"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := KernelDriver(root, "i2c-1", 0x48); got != "" {
		t.Errorf("a device without a driver: %q", got)
	}
}

// Each SMBus call needs its own function of the adapter.
func TestI2CSMBusFunctions(t *testing.T) {
	b, f := newFake(t, funcReadByteData)
	if err := b.Tx(0x76, []byte{1}, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if err := b.Tx(0x76, []byte{1}, make([]byte, 2)); err == nil || !strings.Contains(err.Error(), "writes 1 and reads 2") {
		t.Errorf("%v, want a refusal of the word", err)
	}
	if len(f.smbus) != 1 {
		t.Errorf("calls %v, want one", f.smbus)
	}
}

// shortBlock is an adapter that returns blocks of another length than requested.
type shortBlock struct{ *fakeAdapter }

func (s shortBlock) pointer(req uint, arg unsafe.Pointer) error {
	err := s.fakeAdapter.pointer(req, arg)
	if req == reqSMBus {
		(*smbusCall)(arg).data[0] = 3
	}
	return err
}

func TestI2CShortBlock(t *testing.T) {
	_, f := newFake(t, funcsSMBus)
	b, err := newI2CBus("i2c-1", shortBlock{f})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Tx(0x76, []byte{1}, make([]byte, 8)); err == nil || !strings.Contains(err.Error(), "block of 3 bytes came, want 8") {
		t.Errorf("%v, want the short block", err)
	}
}

func TestI2CBadArguments(t *testing.T) {
	b, _ := newFake(t, funcI2C)
	for _, c := range []struct {
		addr uint16
		w, r []byte
		want string
	}{
		{0x02, []byte{1}, nil, "want 0x03 to 0x77"},
		{0x78, []byte{1}, nil, "want 0x03 to 0x77"},
		{0x3ff, []byte{1}, nil, "want 0x03 to 0x77"},
		{0x76, nil, nil, "nothing to write"},
		{0x76, make([]byte, 8193), nil, "at most 8192"},
		{0x76, nil, make([]byte, 8193), "at most 8192"},
	} {
		if err := b.Tx(c.addr, c.w, c.r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Tx(0x%x, %d, %d) = %v, want %q", c.addr, len(c.w), len(c.r), err, c.want)
		}
	}
	if err := b.SetSpeed(400 * physic.KiloHertz); err == nil || !strings.Contains(err.Error(), "400kHz") {
		t.Errorf("SetSpeed = %v, want a refusal", err)
	}
}

func TestI2COpenAndClose(t *testing.T) {
	b, f := newFake(t, funcI2C)
	if f.timeout != 10 {
		t.Errorf("timeout of %d units, want 10 of 10 ms", f.timeout)
	}
	if b.String() != "i2c-1" {
		t.Errorf("String() = %q", b)
	}
	if err := b.Close(); err != nil || !f.closed {
		t.Errorf("Close = %v, closed %v", err, f.closed)
	}
	if err := b.Tx(0x76, []byte{1}, nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Tx after Close = %v", err)
	}
	if err := b.Close(); err == nil || !strings.Contains(err.Error(), "closed already") {
		t.Errorf("second Close = %v", err)
	}

	b, f = newFake(t, funcI2C)
	f.fail[0] = unix.EIO
	if err := b.Close(); !errors.Is(err, unix.EIO) {
		t.Errorf("Close = %v, want %v", err, unix.EIO)
	}
}

func TestI2COpenRefused(t *testing.T) {
	for _, c := range []struct {
		funcs uint64
		fail  uint
		want  string
	}{
		{funcI2C, reqFuncs, "ask what bus i2c-1 can do"},
		{funcI2C, reqTimeout, "bound the transactions"},
		{0, 0, "neither I2C nor SMBus"},
	} {
		f := &fakeAdapter{t: t, funcs: c.funcs, fail: map[uint]error{c.fail: unix.ENOTTY}}
		if _, err := newI2CBus("i2c-1", f); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// Eight goroutines use one bus, and each gets its own answers.
func TestI2CManyCallers(t *testing.T) {
	b, f := newFake(t, funcI2C)
	for a := range uint16(8) {
		chip := new([256]byte)
		for i := range chip {
			chip[i] = byte(a)
		}
		f.chips[0x10+a] = chip
	}
	var all sync.WaitGroup
	for a := range uint16(8) {
		all.Go(func() {
			for range 20 {
				r := make([]byte, 16)
				if err := b.Tx(0x10+a, []byte{0x20}, r); err != nil {
					t.Error(err)
				}
				if want := bytes.Repeat([]byte{byte(a)}, 16); !bytes.Equal(r, want) {
					t.Errorf("0x%02x answered % x", 0x10+a, r)
				}
			}
		})
	}
	all.Wait()
}

// The structures have the layout of the kernel's.
func TestI2CLayout(t *testing.T) {
	var m i2cMessage
	var x i2cTransfer
	var c smbusCall
	word := unsafe.Sizeof(uintptr(0))
	for _, f := range []struct {
		name      string
		got, want uintptr
	}{
		{"i2c_msg.flags", unsafe.Offsetof(m.flags), 2},
		{"i2c_msg.len", unsafe.Offsetof(m.length), 4},
		{"i2c_msg.buf", unsafe.Offsetof(m.buf), 8},
		{"i2c_rdwr_ioctl_data.nmsgs", unsafe.Offsetof(x.count), word},
		{"i2c_smbus_ioctl_data.command", unsafe.Offsetof(c.command), 1},
		{"i2c_smbus_ioctl_data.size", unsafe.Offsetof(c.size), 4},
		{"i2c_smbus_ioctl_data.data", unsafe.Offsetof(c.data), 8},
		{"i2c_smbus_data", unsafe.Sizeof(smbusData{}), 34},
	} {
		if f.got != f.want {
			t.Errorf("%s is at %d, want %d", f.name, f.got, f.want)
		}
	}
}
