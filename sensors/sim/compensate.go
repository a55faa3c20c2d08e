package sim

import "sort"

// trim is a BME280's calibration, named as in its datasheet (BST-BME280-DS002
// revision 1.6, table 16).
type trim struct {
	T1                             uint16
	T2, T3                         int16
	P1                             uint16
	P2, P3, P4, P5, P6, P7, P8, P9 int16
	H1, H3                         uint8
	H2, H4, H5                     int16
	H6                             int8
}

// sheet is the calibration of the worked example in BST-BMP280-DS001 revision 1.23,
// section 3.12: raw 519888 and 415148 are 25.08 degrees and 100653 Pa. The datasheets
// have no example for humidity; those six have usual values.
var sheet = trim{
	T1: 27504, T2: 26435, T3: -1000,
	P1: 36477, P2: -10685, P3: 3024, P4: 2855, P5: 140, P6: -7, P7: 15500, P8: -14600, P9: 6000,
	H1: 75, H2: 370, H3: 0, H4: 313, H5: 50, H6: 30,
}

// image writes the calibration into the registers 0x88 to 0xA1 and 0xE1 to 0xE7.
func (c trim) image(regs *[256]byte) {
	words := []uint16{
		c.T1, uint16(c.T2), uint16(c.T3),
		c.P1, uint16(c.P2), uint16(c.P3), uint16(c.P4), uint16(c.P5),
		uint16(c.P6), uint16(c.P7), uint16(c.P8), uint16(c.P9),
	}
	for i, w := range words {
		regs[0x88+2*i], regs[0x89+2*i] = byte(w), byte(w>>8)
	}
	regs[0xA1] = c.H1
	regs[0xE1], regs[0xE2] = byte(c.H2), byte(uint16(c.H2)>>8)
	regs[0xE3] = c.H3
	regs[0xE4] = byte(c.H4 >> 4)
	regs[0xE5] = byte(c.H4&0xF) | byte(c.H5&0xF)<<4
	regs[0xE6] = byte(c.H5 >> 4)
	regs[0xE7] = byte(c.H6)
}

// The following functions are the compensation in floating point, BST-BME280-DS002
// appendix 8.1. Drivers use the integer formulas, so that one checks the other.

// fine returns t_fine, 5120 per degree.
func (c trim) fine(raw int) float64 {
	x := float64(raw)/16384 - float64(c.T1)/1024
	y := float64(raw)/131072 - float64(c.T1)/8192
	return x*float64(c.T2) + y*y*float64(c.T3)
}

// pressure returns pascal.
func (c trim) pressure(raw int, fine float64) float64 {
	x := fine/2 - 64000
	y := x*x*float64(c.P6)/32768 + x*float64(c.P5)*2
	y = y/4 + float64(c.P4)*65536
	x = (float64(c.P3)*x*x/524288 + float64(c.P2)*x) / 524288
	x = (1 + x/32768) * float64(c.P1)
	p := (1048576 - float64(raw) - y/4096) * 6250 / x
	return p + (float64(c.P9)*p*p/2147483648+p*float64(c.P8)/32768+float64(c.P7))/16
}

// humidity returns percent, not limited to 0 to 100.
func (c trim) humidity(raw int, fine float64) float64 {
	t := fine - 76800
	h := float64(raw) - (float64(c.H4)*64 + float64(c.H5)/16384*t)
	h *= float64(c.H2) / 65536 * (1 + float64(c.H6)/67108864*t*(1+float64(c.H3)/67108864*t))
	return h * (1 - float64(c.H1)*h/524288)
}

// invert returns the raw value of that many bits whose value is nearest to want. value
// must be monotonic.
func invert(bits int, want float64, value func(raw int) float64) int {
	top := 1<<bits - 1
	rising := value(top) > value(0)
	i := sort.Search(top, func(raw int) bool {
		if rising {
			return value(raw) >= want
		}
		return value(raw) <= want
	})
	if i > 0 && abs(value(i-1)-want) < abs(value(i)-want) {
		i--
	}
	return i
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}
