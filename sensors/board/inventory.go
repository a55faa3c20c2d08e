package board

// Inventory may be implemented by a [Board] that can list its hardware. It requests no
// line and talks to no chip. Its methods may be called from any goroutine.
type Inventory interface {
	// Adapters lists the I2C buses, by number.
	Adapters() []Adapter
	// Chips lists the GPIO chips with their lines, by number.
	Chips() []ChipInfo
	// SPIs lists the SPI devices, as [SPIConfig] takes them: "spidev0.0".
	SPIs() []string
	// Serials lists the serial ports, as [SerialConfig] takes them: "ttyAMA0". Ports of a
	// driver that has no hardware for them are left out.
	Serials() []string
}

// Adapter describes an I2C bus.
type Adapter struct {
	Bus  string // "i2c-1"
	Name string // the adapter's name: "bcm2835 (i2c@7e804000)"; may be empty
}

// HeaderPins is how many pins the header of a Raspberry Pi has: 1 to HeaderPins.
const HeaderPins = len(header40)

// HeaderPin returns what a pin of a Raspberry Pi's 40-pin header is, from 1 to [HeaderPins]: the
// number of a GPIO, or -1 and "3.3 V", "5 V" or "ground".
func HeaderPin(pin int) (gpio int, power string) {
	switch n := header40[pin-1]; n {
	case pin3V3:
		return -1, "3.3 V"
	case pin5V:
		return -1, "5 V"
	case pinGround:
		return -1, "ground"
	default:
		return n, ""
	}
}
