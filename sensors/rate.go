package sensors

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"fieldpost/sensors/option"
)

// otherRate matches a rate in another unit, or written in another way.
var otherRate = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9]+) ?(?i:hz|/sec|/second|ps|per ?s(?:econd)?| ?/ ?s)$`)
})

// rateOf parses a number of things per second: 40/s.
func rateOf(text, things string) (any, error) {
	digits, ok := strings.CutSuffix(text, "/s")
	switch {
	case option.IsNumber(text):
		return nil, fmt.Errorf("write its unit, %s a second: %s/s", things, text)
	case ok && option.IsNumber(digits) && len(digits) > 1 && digits[0] == '0':
		return nil, errors.New("has a leading zero, which other programs read as octal; write it without")
	case ok && option.IsNumber(digits):
		x, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return nil, errors.New("is too large a number")
		}
		return int(x), nil
	}
	if m := otherRate().FindStringSubmatch(text); m != nil {
		return nil, fmt.Errorf("write it as %s a second: %s/s", things, m[1])
	}
	return nil, fmt.Errorf("want a whole number of %s a second, such as 40/s", things)
}

// rate formats a number per second.
func rate(n int) string { return strconv.Itoa(n) + "/s" }
