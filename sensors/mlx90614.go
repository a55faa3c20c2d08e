package sensors

import "time"

// Melexis' MLX90614: the temperature of an object, by infrared, and its own.
//
// Source: MLX90614 data sheet, revision 13, September 2019, sections 8.4 (SMBus, PEC)
// and 8.7 (linearised temperatures, 0.02 K).
//
// The chip measures continuously and keeps its settings without power. Each word has a
// checksum that also covers the request. The bus may have at most 100 kHz.

var mlx90614 = deviceChip(Chip{
	Name:      "mlx90614",
	Title:     "Melexis MLX90614: temperature of a surface by infrared, and its own",
	Source:    "MLX90614 data sheet, revision 13",
	Addresses: []uint16{0x5A, 0x5B, 0x5C, 0x5D},
	Quantities: []Quantity{
		{Name: "temperature_object", Unit: "Cel", Min: -70, Max: 382.2},
		{Name: "temperature_ambient", Unit: "Cel", Min: -40, Max: 125},
	},
	Worst: 500 * time.Millisecond,
}, func(w *wire) device { return &mlx90614Device{w} })

const (
	mlxAmbient = 0x06
	mlxObject  = 0x07
	mlxError   = 1 << 15
)

type mlx90614Device struct{ *wire }

// setup reads once, and waits in case the chip was just powered on.
func (d *mlx90614Device) setup() error {
	if _, err := d.celsius(mlxAmbient); err != nil {
		return err
	}
	d.pause(300 * time.Millisecond) // 250 ms
	return nil
}

func (d *mlx90614Device) measure() ([]float64, error) {
	object, err := d.celsius(mlxObject)
	if err != nil {
		return nil, err
	}
	ambient, err := d.celsius(mlxAmbient)
	return []float64{object, ambient}, err
}

func (d *mlx90614Device) celsius(reg byte) (float64, error) {
	b, err := d.read(reg, 3)
	if err != nil {
		return 0, err
	}
	return mlxCelsius(d.addr, reg, b)
}

// mlxCelsius decodes the temperature of a word with its checksum.
func mlxCelsius(addr uint16, reg byte, b []byte) (float64, error) {
	asked := []byte{byte(addr << 1), reg, byte(addr<<1) | 1}
	w := uint16(b[1])<<8 | uint16(b[0])
	switch pec := crc8(0x07, 0, append(asked, b[:2]...)); {
	case pec != b[2]:
		return 0, faultf("the checksum of % x is %#02x", b, pec)
	case w&mlxError != 0:
		return 0, faultf("it reports that its measurement failed (%#04x)", w)
	}
	return round(float64(w)*0.02-273.15, 0.01), nil
}

// sleep does nothing: to wake the chip again the program would have to drive the bus's
// lines itself.
func (d *mlx90614Device) sleep() error { return nil }
