package health

// Place is what the subject of a fault is reached by: what is to be done about a
// fault that several kinds of hardware may have depends on it.
type Place string

// The places. "" is any other, or unknown.
const (
	OnBus  Place = "bus"  // a chip on an I2C bus
	OnLine Place = "line" // a GPIO line
	InZone Place = "zone" // a thermal zone of the kernel

	OfKernel Place = "device" // a device whose driver is the kernel's, in /sys/class/hwmon
)

// doAt is what to do at a place, where Fault.Do is not good for it.
var doAt = map[Code]map[Place]string{
	Absent: {
		OnBus:    "Check the bus's name in the configuration: `ls /dev/i2c-*`; on a Raspberry Pi enable I2C with `dtparam=i2c_arm=on` in config.txt.",
		OnLine:   "Check the pin in the configuration: `gpioinfo` names this machine's lines.",
		OfKernel: "Check the device's name in the configuration: `grep . /sys/class/hwmon/*/name` names this machine's; a chip on a bus needs its overlay in config.txt, such as `dtoverlay=i2c-sensor,sht3x`.",
		InZone:   "Check the zone in the configuration: `cat /sys/class/thermal/thermal_zone*/type` names this machine's.",
	},
	Denied: {
		OnBus:    "Put the user fieldpost into the group i2c and install the udev rule that comes with fieldpost.",
		OnLine:   "Put the user fieldpost into the group gpio and install the udev rule that comes with fieldpost.",
		OfKernel: "Let the user fieldpost read /sys/class/hwmon; the unit that comes with fieldpost does.",
		InZone:   "Let the user fieldpost read /sys/class/thermal; the unit that comes with fieldpost does.",
	},
	NoAnswer: {
		OnLine:   "See the detail in the journal.",
		InZone:   "See the detail in the journal; the kernel's driver of the zone gives no value.",
		OfKernel: "See the detail in the journal; the kernel's driver gives no value.",
	},
	WrongAnswer: {
		OnLine:   "See the detail in the journal.",
		OfKernel: "See the detail in the journal; the value is that of the kernel's driver. Check the sensor's wiring.",
		InZone:   "See the detail in the journal; the value is that of the kernel's driver. Try another zone.",
	},
	ReadFailed: {
		InZone:   "See the detail in the journal; the kernel's driver of the zone gives no value now.",
		OfKernel: "See the detail in the journal; the kernel's driver gives no value now: on a chip's bus check power and wiring.",
	},
}

// DoAt gives what to do about the fault at a place.
func (f Fault) DoAt(p Place) string {
	if do, ok := doAt[f.Code][p]; ok {
		return do
	}
	return f.Do
}
