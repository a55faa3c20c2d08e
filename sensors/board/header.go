package board

import (
	"fmt"
	"strconv"
	"strings"
)

// The power pins of the 40-pin header, as negative values in [header40].
const (
	pin3V3 = -1 - iota
	pin5V
	pinGround
)

// header40 is the Raspberry Pi's 40-pin header; index 0 is pin 1. Its first 26 pins are
// the header of the models A and B, except on the first boards of 2012, where pins 3, 5
// and 13 were GPIO0, 1 and 21.
//
// Source: Raspberry Pi documentation, "GPIO and the 40-pin header".
var header40 = [40]int{
	pin3V3, pin5V, 2, pin5V, 3, pinGround, 4, 14, pinGround, 15,
	17, 18, 27, pinGround, 22, 23, pin3V3, 24, 10, pinGround,
	9, 25, 11, 8, pinGround, 7, 0, 1, 5, pinGround,
	6, 12, 13, pinGround, 19, 16, 26, 20, pinGround, 21,
}

// headerPin returns the GPIO number of a pin such as P1_11.
func headerPin(s string) (int, error) {
	number := strings.TrimPrefix(s, "P1_")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(header40) || number[0] == '0' {
		return 0, fmt.Errorf("line %q: the 40-pin header has the pins P1_1 to P1_40", s)
	}
	gpio := header40[n-1]
	if gpio < 0 {
		what := map[int]string{pin3V3: "3.3 V", pin5V: "5 V", pinGround: "ground"}[gpio]
		return 0, fmt.Errorf("line %q is no GPIO but %s", s, what)
	}
	return gpio, nil
}
