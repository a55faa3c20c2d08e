package sensors

import "time"

// Texas Instruments' TMP117. The TMP116 and the TMP119 have other identities and are
// refused.
//
// Source: SNOSD82D, TMP117, revised September 2022: temperatures table 7-1, registers
// section 7.6.
//
// The chip is shut down between readings and measures once for each: the mean of eight
// conversions. Before the first one its register holds 0x8000, -256 degrees.

var tmp117 = deviceChip(Chip{
	Name:       "tmp117",
	Title:      "Texas Instruments TMP117: temperature to a tenth of a degree",
	Source:     "SNOSD82D, September 2022",
	Addresses:  []uint16{0x48, 0x49, 0x4A, 0x4B},
	Quantities: []Quantity{{Name: "temperature", Unit: "Cel", Min: -55, Max: 150}},
	Worst:      400 * time.Millisecond,
}, func(w *wire) device { return &tmp117Device{wire: w} })

const (
	tmp117Temp = 0x00
	tmp117Conf = 0x01
	tmp117ID   = 0x0F

	tmp117Is    = 0x117 // of 12 bits; above is the revision
	tmp117Once  = 3 << 10
	tmp117Off   = 1 << 10
	tmp117Avg8  = 1 << 5
	tmp117Ready = 1 << 13
	tmp117User  = 7 << 2 // T/nA, POL, DR/Alert: not changed
	tmp117Set   = 7<<7 | 3<<5 | tmp117User
	tmp117None  = 0x8000
)

type tmp117Device struct {
	*wire
	conf uint16 // without the mode
}

func (d *tmp117Device) setup() error {
	id, err := d.word(tmp117ID)
	if err != nil {
		return err
	}
	if id&0xFFF != tmp117Is {
		return faultf("device id %#04x is not a TMP117's", id)
	}
	conf, err := d.word(tmp117Conf)
	if err != nil {
		return err
	}
	d.conf = conf&tmp117User | tmp117Avg8
	return d.sleep()
}

func (d *tmp117Device) measure() ([]float64, error) {
	if err := d.setWord(tmp117Conf, d.conf|tmp117Once); err != nil {
		return nil, err
	}
	d.pause(126 * time.Millisecond) // eight times 15.5 ms
	ready := func(v uint16) (bool, error) {
		if v&tmp117Set != d.conf || v&tmp117Off == 0 { // during the conversion the mode is still one-shot
			return false, lostSetup("configuration", v, d.conf|tmp117Once)
		}
		return v&tmp117Ready != 0, nil
	}
	if err := d.await(tmp117Conf, 5*time.Millisecond, 8, ready); err != nil {
		return nil, err
	}
	t, err := d.word(tmp117Temp)
	if err != nil {
		return nil, err
	}
	if t == tmp117None {
		return nil, faultf("no measurement: %#04x", t)
	}
	return []float64{round(float64(int16(t))/128, 0.001)}, nil
}

// sleep shuts the chip down.
func (d *tmp117Device) sleep() error { return d.setWord(tmp117Conf, d.conf|tmp117Off) }
