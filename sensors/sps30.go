package sensors

import "time"

// Sensirion's SPS30, which measures dust periodically (measuring.go).
//
// Source: SPS30 data sheet, version 1.0, March 2020, section 6.

var sps30 = deviceChip(Chip{
	Name:      "sps30",
	Title:     "Sensirion SPS30: dust",
	Source:    "SPS30 data sheet, version 1.0, March 2020",
	Addresses: []uint16{0x69},
	Quantities: []Quantity{
		{Name: "pm1", Unit: "ug/m3", Min: 0, Max: 10000},
		{Name: "pm2_5", Unit: "ug/m3", Min: 0, Max: 10000},
		{Name: "pm4", Unit: "ug/m3", Min: 0, Max: 10000},
		{Name: "pm10", Unit: "ug/m3", Min: 0, Max: 10000},
	},
	Every: 30 * time.Second, Worst: time.Second, WarmUp: 15 * time.Second,
}, func(w *wire) device {
	return &measuring{
		words: words{w, sps30Ready}, ready: sps30Ready, mask: 1, data: 0x0300, wait: 20 * time.Millisecond, n: 8, // of 20
		begin: beginSPS30, end: func(d *measuring) error { return d.command(sps30Stop) }, convert: sps30Values,
	}
})

const (
	sps30Start    = 0x0010
	sps30Floats   = 0x0300 // the argument of sps30Start
	sps30Stop     = 0x0104
	sps30Ready    = 0x0202
	sps30Firmware = 0xD100
	// sps30Settles is the time from the start until values are stable: table 1 has 8 s
	// for 200 particles/cm³ and more.
	sps30Settles = 10 * time.Second
)

// beginSPS30 starts measuring.
func beginSPS30(d *measuring) error {
	firmware, err := d.ask(sps30Firmware, d.wait, 1)
	if err != nil {
		return err
	}
	if firmware[0] == 0 {
		return faultf("its firmware is version 0")
	}
	if err := d.command(sps30Stop); err != nil {
		return err
	}
	d.pause(d.wait)
	err = d.command(sps30Start, sps30Floats)
	d.pause(d.wait)
	d.usable = time.Now().Add(sps30Settles)
	return err
}

// sps30Values decodes the four concentrations, in µg/m³.
func sps30Values(v []uint16) ([]float64, error) {
	values := make([]float64, 4)
	for i := range values {
		values[i] = round(float32Of(v[2*i:]), 0.01)
	}
	return values, nil
}
