package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"fieldpost/daemon/endpoint"
	"fieldpost/sensors/board"
)

// rule is what is asked of a key beyond its type.
type rule struct {
	required bool
	wants    string                         // what it wants, where the type's word is too wide
	parse    func(text string) (any, error) // reads it; nil reads by type
	check    func(v any) (reason string)    // "" when v is possible; nil accepts all
	file     bool                           // names a file that must exist
	dir      bool                           // names a directory that fieldpost makes
}

// rules are the rules of all keys; a key without one takes whatever its type
// can hold.
var rules = map[string]rule{
	"thing":              {required: true, check: identifier},
	"broker.endpoint":    {required: true, check: brokerAt},
	"broker.client_id":   {check: clientID},
	"broker.ca":          {file: true, check: fileName},
	"broker.certificate": {file: true, check: fileName},
	"broker.key":         {file: true, check: fileName},
	"broker.keep_alive":  {check: between(30*time.Second, 1200*time.Second, short)},
	"broker.will":        {wants: "offline or none", check: oneOf("offline", "none")},
	"broker.verify":      {wants: "auto, subscribe or none", check: oneOf("auto", "subscribe", "none")},
	"broker.limits":      {wants: "auto, aws or none", check: oneOf("auto", "aws", "none")},

	"readings.topic":        {required: true, check: topicOf("{thing}", "{sensor}")},
	"readings.batch.max":    {check: between(1, 1000, strconv.Itoa)},
	"readings.batch.within": {check: between(0, time.Minute, short)},

	"commands.topic":     {check: topicOf("{thing}")},
	"commands.answers":   {check: topicOf("{thing}")},
	"commands.max_life":  {check: between(time.Second, 7*24*time.Hour, short)},
	"commands.unstamped": {wants: "refuse or accept", check: oneOf("refuse", "accept")},

	"spool.dir":       {dir: true, check: fileName},
	"spool.at_risk":   {check: between(0, 10*time.Minute, short)},
	"spool.max_bytes": {wants: "a number of bytes such as 64MiB", parse: bytesOf, check: between[int64](1<<20, 1<<40, size)},
	"spool.max_age":   {check: between(time.Minute, 10*365*24*time.Hour, short)},

	"sensors[].name":      {required: true, check: name},
	"sensors[].chip":      {required: true},
	"sensors[].every":     {check: between(10*time.Millisecond, 24*time.Hour, short)},
	"sensors[].bus":       {check: bus},
	"sensors[].address":   {wants: "a number such as 0x76"}, // its range depends on the chip
	"sensors[].pin":       {wants: "a line such as GPIO17", check: line},
	"sensors[].debounce":  {check: between(0, time.Minute, short)},
	"sensors[].max_edges": {wants: "a number of changes a second such as 40/s", parse: rateOf, check: between(1, mostEdges, rate)},
	"sensors[].zone":      {check: zone},

	"outputs[].name":        {required: true, check: name},
	"outputs[].pin":         {required: true, wants: "a line such as GPIO17", check: line},
	"outputs[].safe_after":  {check: zeroOr(100 * time.Millisecond)},
	"outputs[].refresh":     {check: zeroOr(time.Second)},
	"outputs[].max_on":      {check: zeroOr(100 * time.Millisecond)},
	"outputs[].min_on":      {check: between(0, mostMinimum, short)},
	"outputs[].min_off":     {check: between(0, mostMinimum, short)},
	"outputs[].interlock[]": {wants: "the name of an output"},
}

// shown is how much of a value an error repeats. What was pasted where a
// file's name belongs may be the private key itself.
func (r rule) shown(text string) string {
	if r.file && (strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, "-----")) {
		return ""
	}
	return text
}

// between accepts what is neither less than lo nor more than hi.
func between[T cmp.Ordered](lo, hi T, show func(T) string) func(any) string {
	return func(v any) string {
		if x := v.(T); x < lo || x > hi {
			return fmt.Sprintf("want %s to %s", show(lo), show(hi))
		}
		return ""
	}
}

// oneOf accepts these words.
func oneOf(words ...string) func(any) string {
	return func(v any) string {
		if !slices.Contains(words, v.(string)) {
			most, last := words[:len(words)-1], words[len(words)-1]
			return "want " + strings.Join(most, ", ") + " or " + last
		}
		return ""
	}
}

// zeroOr accepts 0 and what is not less than lo.
func zeroOr(lo time.Duration) func(any) string {
	return func(v any) string {
		if d := v.(time.Duration); d != 0 && d < lo {
			return fmt.Sprintf("want at least %s, or 0 for ever", short(lo))
		}
		return ""
	}
}

// mostEdges is the highest max_edges. Each change is a message: a broker that
// takes a thousand a second from one board is rare.
const mostEdges = 1000

// short writes a duration without the zeros that Go appends: 20m, 720h.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func hex(x uint16) string { return fmt.Sprintf("0x%02x", x) }

var (
	names       = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	identifiers = regexp.MustCompile(`^[A-Za-z0-9:_.-]{1,128}$`)
	notBuses    = regexp.MustCompile(`(?i)^(i2c|spi|spidev|smbus|gpiochip|tty[a-z]*)?[-_ ]?[0-9.]*$`) // a slip, or another kind of bus
	buses       = regexp.MustCompile(`^i2c-(0|[1-9][0-9]{0,4})$`)
)

// reserved is the name under which fieldpost speaks of itself.
const reserved = "fieldpost"

func name(v any) string {
	switch s := v.(string); {
	case s == reserved:
		return "this name is fieldpost's own; choose another"
	case !names.MatchString(s):
		return "want 1 to 64 of the characters A-Z a-z 0-9 _ -"
	}
	return ""
}

// identifier checks the thing's name. It becomes a level of topics and the
// client id, so it is kept to what AWS IoT Core takes as a thing's name, and
// the dot of host names.
func identifier(v any) string {
	if !identifiers.MatchString(v.(string)) {
		return "want 1 to 128 of the characters A-Z a-z 0-9 : _ . -"
	}
	return ""
}

// clientID: AWS IoT Core, "Message broker and protocol limits and quotas":
// 128 bytes of UTF-8, and none that starts with $.
func clientID(v any) string {
	switch s := v.(string); {
	case len(s) > 128:
		return fmt.Sprintf("want at most 128 bytes, not %d", len(s))
	case strings.HasPrefix(s, "$"):
		return "may not begin with $"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "may not hold control characters"
	}
	return ""
}

// bus takes a bus's name as a board does, but each bus by one name only: one
// worker is for what has one name.
func brokerAt(v any) string {
	if _, err := endpoint.Parse(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

func bus(v any) string {
	s := v.(string)
	switch plain := strings.TrimPrefix(s, "/dev/"); {
	case buses.MatchString(s):
		return ""
	case buses.MatchString(plain), buses.MatchString("i2c-" + plain):
		return fmt.Sprintf("want the bus's name: %q", "i2c-"+strings.TrimPrefix(plain, "i2c-"))
	case notBuses.MatchString(plain), strings.ContainsFunc(s, unicode.IsControl), s != strings.TrimSpace(s), len(s) > 64,
		strings.HasPrefix(s, "/") && (plain == s || plain == "" || strings.Contains(plain, "..")):
		return "want the name of an I2C bus, such as i2c-1, a link to it such as /dev/i2c-greenhouse, or its adapter's name, such as CH341"
	}
	return ""
}

func line(v any) string {
	if _, err := board.ParseLine(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

func zone(v any) string {
	s := v.(string)
	if strings.Contains(s, "/") || strings.HasPrefix(s, ".") || strings.ContainsFunc(s, unicode.IsControl) {
		return "want a thermal zone's type, number or name, such as cpu-thermal, 0 or thermal_zone0"
	}
	return ""
}

func fileName(v any) string {
	switch s := v.(string); {
	case strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(s, "-----"):
		return "want the name of a file, not its content"
	case s == "~" || strings.HasPrefix(s, "~/") || strings.HasPrefix(s, "$") || strings.HasPrefix(s, "%"):
		return "want the whole path: ~, $ and % are not replaced by anything here"
	}
	return ""
}

// topicOf checks a topic as it is written; what it becomes with its
// placeholders filled in is checked once the whole file is read.
func topicOf(placeholders ...string) func(any) string {
	return func(v any) string {
		if err := checkPlaceholders(v.(string), placeholders); err != nil {
			return err.Error()
		}
		return ""
	}
}

var errUnpaired = errors.New("a brace without its partner; a placeholder is written {thing}")
