package health

// Subject is something that faults are raised about.
type Subject struct {
	Name  string
	Kind  Kind
	Place Place
	On    string // the name of the bus that it is on; "" for none
}

// Kind is the kind of a subject, as messages and the journal call it.
type Kind string

// The kinds.
const (
	Sensor Kind = "sensor"
	Output Kind = "output"
	Part   Kind = "part" // the broker, a bus, the spool
)

// Place says how the subject of a fault is connected. What to do about a fault that several
// kinds of hardware may have depends on it.
type Place string

// The places. "" is any other, or unknown.
const (
	OnBus    Place = "bus"    // a chip on an I2C bus
	OnLine   Place = "line"   // a GPIO line
	InZone   Place = "zone"   // a thermal zone of the kernel
	OnSPI    Place = "spi"    // a chip on SPI
	OnPort   Place = "port"   // a chip on a serial port
	OfKernel Place = "device" // a device whose driver is the kernel's, in /sys/class/hwmon, /sys/bus/iio or /sys/bus/w1
)

// Title returns a place's name for people.
func (p Place) Title() string {
	switch p {
	case OnBus:
		return "I2C"
	case OnLine:
		return "GPIO"
	case InZone:
		return "thermal zone"
	case OnSPI:
		return "SPI"
	case OnPort:
		return "serial port"
	case OfKernel:
		return "kernel's device"
	}
	return string(p)
}

// Places are all places with cures of their own.
var Places = []Place{OnBus, OnLine, InZone, OnSPI, OnPort, OfKernel}
