package sim

import "time"

// SHT is a simulated temperature and humidity sensor from Sensirion: an SHT3x, SHT4x or
// SHTC3.
type SHT struct {
	commanded
	air
	heater, awake bool
}

// SetAir sets the temperature of the air, in degrees Celsius, and its relative
// humidity, in percent.
func (d *SHT) SetAir(celsius, percent float64) { d.update(func() { d.air = air{celsius, percent} }) }

// AddSHT3x puts an SHT3x at addr, in air of 20 degrees and 50 %. A heater that is on
// warms it by 3 degrees.
func AddSHT3x(b *Bus, addr uint16) *SHT { return addSHT3x(b, addr, nil) }

// AddHDC302x puts an HDC302x at addr, in air of 20 degrees and 50 %.
func AddHDC302x(b *Bus, addr uint16) *SHT { return addSHT3x(b, addr, sensirionWords(0x3000)) }

func addSHT3x(b *Bus, addr uint16, id []byte) *SHT {
	d := &SHT{air: air{20, 50}}
	periodic := false
	d.commanded = commanded{
		width:  2,
		forget: func() { d.heater, periodic = false, false },
		hears:  func(code uint16) bool { return !periodic || code == 0x3093 || code == 0xE000 },
		take: func(_ time.Time, code uint16, _ []byte) ([]byte, time.Duration) {
			switch code {
			case 0x2400:
				t := d.celsius
				if d.heater {
					t += 3
				}
				return sensirionWords(share(t, -45, 175), share(d.percent, 0, 100)), 13 * time.Millisecond
			case 0x3781:
				return id, 0
			case 0x2130:
				periodic = true
			case 0x3093:
				periodic = false
			case 0x30A2:
				d.heater = false
			case 0x306D, 0x3066:
				d.heater = code == 0x306D
			case 0xF32D:
				status := uint16(0x8010)
				if d.heater {
					status |= 1 << 13
				}
				return sensirionWords(status), 0
			}
			return nil, 0
		},
	}
	d.Chip = b.add(addr, d)
	return d
}

// AddSHT4x puts an SHT4x at addr, in air of 20 degrees and 50 %.
func AddSHT4x(b *Bus, addr uint16) *SHT {
	d := &SHT{air: air{20, 50}}
	d.commanded = commanded{
		width: 1,
		take: func(_ time.Time, code uint16, _ []byte) ([]byte, time.Duration) {
			switch code {
			case 0xFD:
				return sensirionWords(share(d.celsius, -45, 175), share(d.percent, -6, 125)), 7 * time.Millisecond
			case 0x89:
				return sensirionWords(0x0F0A, 0x1B2C), 0
			}
			return nil, 0
		},
	}
	d.Chip = b.add(addr, d)
	return d
}

// AddSHTC3 puts an SHTC3 at address 0x70, in air of 20 degrees and 50 %.
func AddSHTC3(b *Bus) *SHT {
	d := &SHT{air: air{20, 50}}
	d.commanded = commanded{
		width:  2,
		forget: func() { d.awake = true }, // it is idle, not asleep, after power-on
		hears:  func(code uint16) bool { return d.awake || code == 0x3517 },
		take: func(_ time.Time, code uint16, _ []byte) ([]byte, time.Duration) {
			switch code {
			case 0x3517:
				d.awake = true
			case 0xB098:
				d.awake = false
			case 0xEFC8:
				return sensirionWords(0x0887), 0
			case 0x7866:
				return sensirionWords(share(d.celsius, -45, 175), share(d.percent, 0, 100)), 11 * time.Millisecond
			}
			return nil, 0
		},
	}
	d.Chip = b.add(0x70, d)
	return d
}
