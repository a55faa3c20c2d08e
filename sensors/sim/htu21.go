package sim

import (
	"math"
	"time"
)

// HTU21 is a simulated HTU21D or Si7021.
type HTU21 struct {
	commanded
	air
	user byte
}

// SetAir sets the temperature of the air, in degrees Celsius, and its relative
// humidity, in percent.
func (d *HTU21) SetAir(celsius, percent float64) { d.update(func() { d.air = air{celsius, percent} }) }

// AddHTU21D puts an HTU21D at address 0x40, in air of 20 degrees and 50 %.
func AddHTU21D(b *Bus) *HTU21 {
	return addHTU21(b, 44*time.Millisecond, 14*time.Millisecond, 0x02, nil)
}

// AddSi7021 puts a Si7021 at address 0x40, in air of 20 degrees and 50 %.
func AddSi7021(b *Bus) *HTU21 {
	return addHTU21(b, 7*time.Millisecond, 10*time.Millisecond, 0x3A, []byte{0x15, 0xFF, crc8(0x31, 0, []byte{0x15, 0xFF}), 0xB5, 0xFF, 0xFF})
}

func addHTU21(b *Bus, t, rh time.Duration, user byte, id []byte) *HTU21 {
	d := &HTU21{air: air{20, 50}}
	answer := func(share float64, status uint16) []byte {
		w := uint16(math.Round(share*65536))&^3 | status
		p := []byte{byte(w >> 8), byte(w)}
		return append(p, crc8(0x31, 0, p))
	}
	d.commanded = commanded{
		width:  1,
		forget: func() { d.user = user },
		take: func(_ time.Time, code uint16, args []byte) ([]byte, time.Duration) {
			switch {
			case code == 0xF3:
				c := d.celsius
				if d.user&4 != 0 {
					c += 3
				}
				return answer((c+46.85)/175.72, 0), t
			case code == 0xF5:
				return answer((d.percent+6)/125, 2), rh
			case code == 0xE7:
				return []byte{d.user}, 0
			case code == 0xE6 && len(args) == 1:
				d.user = args[0]
			case code == 0xFC:
				return id, 0
			}
			return nil, 0
		},
	}
	d.Chip = b.add(0x40, d)
	return d
}
