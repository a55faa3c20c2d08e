package sensors

import "time"

// Sensirion's SCD4x and SCD30, which measure carbon dioxide periodically (measuring.go).
//
// Sources: SCD4x data sheet, version 1.4, May 2023, sections 3.4 to 3.10; SCD30 interface
// description, version 1.0, May 2020, sections 1.4.1 to 1.4.5.
//
// Before their first measurement the chips have a value of 0 ppm.

var scd4x = deviceChip(Chip{
	Name:      "scd4x",
	Title:     "Sensirion SCD40, SCD41: carbon dioxide, temperature and humidity",
	Source:    "SCD4x data sheet, version 1.4",
	Addresses: []uint16{0x62},
	Quantities: []Quantity{
		{Name: "co2", Unit: "[ppm]", Min: 0, Max: 40000},
		{Name: "temperature", Unit: "Cel", Min: -10, Max: 60}, percentRH,
	},
	Every: 30 * time.Second, Worst: time.Second, WarmUp: 7 * time.Second,
}, func(w *wire) device {
	return &measuring{
		words: words{w, scd4xReady}, ready: scd4xReady, mask: 0x07FF, data: 0xEC05, wait: time.Millisecond, n: 3,
		begin: beginSCD4x, end: func(d *measuring) error { return d.command(scd4xStop) }, convert: scd4xValues,
	}
})

const (
	scd4xStart  = 0x21B1 // a value every 5 s
	scd4xStop   = 0x3F86 // 500 ms
	scd4xReady  = 0xE4B8
	scd4xSerial = 0x3682
)

// beginSCD4x starts measuring. It first stops a measurement that another program has
// started, because the chip accepts few commands while it measures.
func beginSCD4x(d *measuring) error {
	if err := d.command(scd4xStop); err != nil {
		return err
	}
	d.pause(500 * time.Millisecond)
	serial, err := d.ask(scd4xSerial, time.Millisecond, 3)
	if err != nil {
		return err
	}
	if serial[0]|serial[1]|serial[2] == 0 {
		return faultf("its serial number is 0")
	}
	return d.command(scd4xStart)
}

// errNoCO2 is the error of a value that was not measured.
var errNoCO2 = faultf("carbon dioxide of 0 ppm: not measured")

func scd4xValues(v []uint16) ([]float64, error) {
	if v[0] == 0 {
		return nil, errNoCO2
	}
	return []float64{float64(v[0]), round(celsius175(v[1], 65535), 0.01), round(100*float64(v[2])/65535, 0.01)}, nil
}

var scd30 = deviceChip(Chip{
	Name:      "scd30",
	Title:     "Sensirion SCD30: carbon dioxide, temperature and humidity",
	Source:    "SCD30 interface description, version 1.0",
	Addresses: []uint16{0x61},
	Quantities: []Quantity{
		{Name: "co2", Unit: "[ppm]", Min: 0, Max: 40000},
		{Name: "temperature", Unit: "Cel", Min: -40, Max: 70}, percentRH,
	},
	Every: 30 * time.Second, Worst: time.Second, WarmUp: 5 * time.Second,
}, func(w *wire) device {
	return &measuring{
		words: words{w, scd30Ready}, ready: scd30Ready, mask: 1, data: 0x0300, wait: 5 * time.Millisecond, n: 6,
		begin: beginSCD30, convert: scd30Values,
	}
})

const (
	scd30Start    = 0x0010 // with the air pressure in mbar, or 0
	scd30Interval = 0x4600
	scd30Ready    = 0x0202
	scd30Firmware = 0xD100
	scd30Seconds  = 2
)

// beginSCD30 starts measuring. The chip then measures for ever, also after it lost its
// power. It keeps its settings in a memory that wears out, so they are written only if
// they differ. It answers three milliseconds after a command.
func beginSCD30(d *measuring) error {
	firmware, err := d.ask(scd30Firmware, d.wait, 1)
	if err != nil {
		return err
	}
	if firmware[0] == 0 {
		return faultf("its firmware is version 0")
	}
	interval, err := d.ask(scd30Interval, d.wait, 1)
	if err != nil {
		return err
	}
	if interval[0] != scd30Seconds {
		if err := d.command(scd30Interval, scd30Seconds); err != nil {
			return err
		}
		d.pause(30 * time.Millisecond)
	}
	err = d.command(scd30Start, 0)
	d.pause(30 * time.Millisecond)
	return err
}

func scd30Values(v []uint16) ([]float64, error) {
	co2 := float32Of(v)
	if co2 == 0 {
		return nil, errNoCO2
	}
	return []float64{round(co2, 0.1), round(float32Of(v[2:]), 0.01), round(float32Of(v[4:]), 0.01)}, nil
}
