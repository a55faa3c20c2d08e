package sensors

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	plainNumber = regexp.MustCompile(`^[0-9]+$`)
	zeroFirst   = regexp.MustCompile(`^0[0-9]+$`) // others may read it as octal
	otherRate   = regexp.MustCompile(`^([0-9]+) ?(?i:hz|/sec|/second|ps|per ?s(?:econd)?| ?/ ?s)$`)
)

// rateOf parses a number per second: 40/s.
func rateOf(text string) (any, error) {
	digits, ok := strings.CutSuffix(text, "/s")
	switch m := otherRate.FindStringSubmatch(text); {
	case plainNumber.MatchString(text):
		return nil, fmt.Errorf("write its unit, changes a second: %s/s", text)
	case ok && zeroFirst.MatchString(digits):
		return nil, errors.New("has a leading zero, which other programs read as octal; write it without")
	case ok && plainNumber.MatchString(digits):
		x, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return nil, errors.New("is too large a number")
		}
		return int(x), nil
	case m != nil:
		return nil, fmt.Errorf("write it as changes a second: %s/s", m[1])
	}
	return nil, errors.New("want a whole number of changes a second, such as 40/s")
}

// rate formats a number per second.
func rate(n int) string { return strconv.Itoa(n) + "/s" }
