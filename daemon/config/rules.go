package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/output"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
	"fieldpost/sensors/option"
)

// rule is an [option.Rule] with the methods of the loader.
type rule option.Rule

// rules are the rules of all keys except those of chips, which are in the catalog. A key
// without a rule accepts every value of its type.
var rules = map[string]rule{
	"thing":                {Required: true, Check: thingName},
	"broker.endpoint":      {Required: true, Check: brokerAt},
	"broker.client_id":     {Check: clientID},
	"broker.ca":            {Check: fileName, File: true},
	"broker.certificate":   {Check: fileName, File: true},
	"broker.key":           {Check: fileName, File: true},
	"broker.username":      {Check: username},
	"broker.password_file": {Check: fileName, File: true},
	"broker.proxy":         {Check: proxy, Secret: true},
	"broker.alpn":          {Check: alpn},
	"broker.keep_alive":    {Check: option.Between(awsiot.KeepAliveMin, awsiot.KeepAliveMax, option.Duration)},
	"broker.will":          {Wants: "offline or none", Check: option.OneOf("offline", "none")},
	"broker.verify":        {Wants: "auto, subscribe or none", Check: option.OneOf("auto", "subscribe", "none")},
	"broker.limits":        {Wants: "auto, aws or none", Check: option.OneOf("auto", "aws", "none")},

	"broker.provisioning.template":          {Check: template},
	"broker.provisioning.claim_certificate": {Check: fileName, File: true},
	"broker.provisioning.claim_key":         {Check: fileName, File: true},
	"broker.provisioning.client_id":         {Check: clientID},
	"broker.provisioning.renew_template":    {Check: template},
	"broker.provisioning.renew_before":      {Check: option.Between(time.Hour, 10*365*24*time.Hour, option.Duration)},

	"readings.topic":        {Required: true, Check: topicOf("{thing}", "{sensor}", quantityPlaceholder)},
	"readings.linger":       {Check: option.Between(0, 500*time.Millisecond, option.Duration)},
	"readings.batch.max":    {Check: option.Between(1, 1000, strconv.Itoa)},
	"readings.batch.within": {Check: option.Between(0, time.Minute, option.Duration)},

	"commands.topic":     {Check: topicOf("{thing}")},
	"commands.answers":   {Check: topicOf("{thing}")},
	"commands.max_life":  {Check: option.Between(time.Second, 7*24*time.Hour, option.Duration)},
	"commands.unstamped": {Wants: "refuse or accept", Check: option.OneOf("refuse", "accept")},

	"spool.dir":       {Check: fileName, Dir: true},
	"spool.at_risk":   {Check: option.Between(0, 10*time.Minute, option.Duration)},
	"spool.max_bytes": {Wants: "a number of bytes such as 64MiB", Parse: bytesOf, Check: option.Between[int64](1<<20, 1<<40, size)},
	"spool.max_age":   {Check: option.Between(time.Minute, 10*365*24*time.Hour, option.Duration)},

	"history.keep":       {Wants: "disk, memory or none", Check: option.OneOf("disk", "memory", "none")},
	"history.quantities": {Check: option.Between(1, 96, strconv.Itoa)},

	"local.listen":     {Wants: "an address and a port such as 127.0.0.1:8080", Check: listenAddress},
	"local.token_file": {Check: fileName, Dir: true}, // need not exist: the daemon does not stay away for it
	"local.metrics":    {Wants: "an address and a port such as 127.0.0.1:9108", Check: listenAddress},
	"local.hosts[]":    {Wants: "a name or an address such as greenhouse.local", Check: hostName},

	"sensors[].name":  {Required: true, Check: name},
	"sensors[].chip":  {Required: true},
	"sensors[].every": {Check: option.Between(10*time.Millisecond, 24*time.Hour, option.Duration)},

	"sensors[].altitude":            {Check: option.Between(-500.0, 9000, func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) })},
	"sensors[].derive[]":            {Wants: "a quantity such as dew_point", Check: derivedQuantity},
	"sensors[].filters[].filter":    {Required: true, Wants: "a filter such as median"},
	"sensors[].filters[].heartbeat": {Check: option.Between(time.Second, 7*24*time.Hour, option.Duration)},

	"outputs[].name":        {Required: true, Check: name},
	"outputs[].pin":         {Wants: "a line such as GPIO17", Check: line},
	"outputs[].pwm":         {Wants: "a PWM channel such as pwmchip0:1", Check: pwmChannel},
	"outputs[].frequency":   {Wants: "a frequency such as 25kHz", Check: frequency},
	"outputs[].ramp":        {Check: option.Between(0, time.Hour, option.Duration)},
	"outputs[].safe_after":  {Check: zeroOr(100 * time.Millisecond)},
	"outputs[].refresh":     {Check: zeroOr(time.Second)},
	"outputs[].max_on":      {Check: zeroOr(100 * time.Millisecond)},
	"outputs[].min_on":      {Check: option.Between(0, mostMinimum, option.Duration)},
	"outputs[].min_off":     {Check: option.Between(0, mostMinimum, option.Duration)},
	"outputs[].interlock[]": {Wants: "the name of an output"},
}

// shown returns the value for an error message, or "" if it may be a secret: somebody may
// have pasted a private key instead of its file name.
func (r rule) shown(text string) string {
	if r.Secret {
		return ""
	}
	if r.File && (strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, "-----")) {
		return ""
	}
	return text
}

// zeroOr accepts 0 and durations of at least lo.
func zeroOr(lo time.Duration) func(any) string {
	return func(v any) string {
		if d := v.(time.Duration); d != 0 && d < lo {
			return fmt.Sprintf("want at least %s, or 0 for ever", option.Duration(lo))
		}
		return ""
	}
}

// isName reports whether s is valid as the name of a sensor or an output.
func isName(s string) bool { return madeOf(s, 64, "_-") }

// madeOf reports whether s is 1 to most ASCII letters, digits and characters of others.
func madeOf(s string, most int, others string) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(others, r)
	})
}

// reserved is the sensor name that stands for fieldpost itself.
const reserved = "fieldpost"

func name(v any) string {
	switch s := v.(string); {
	case s == reserved:
		return "is reserved for fieldpost; choose another name"
	case !isName(s):
		return "want 1 to 64 of the characters A-Z a-z 0-9 _ -"
	}
	return ""
}

// identifier checks the thing's name. The name becomes a topic level and the client id.
// Allowed are the characters of AWS IoT Core's thing names, and the dot, which host names
// have.
func identifier(v any) string {
	if !madeOf(v.(string), 128, ":_.-") {
		return "want 1 to 128 of the characters A-Z a-z 0-9 : _ . -"
	}
	return ""
}

// thingName checks the thing's name as written; serial checks it again with the serial number
// in it.
func thingName(v any) string {
	return identifier(strings.ReplaceAll(v.(string), serialPlaceholder, "0"))
}

// template checks the name of a provisioning template (AWS IoT API Reference,
// CreateProvisioningTemplate).
func template(v any) string {
	if !madeOf(v.(string), 36, "_-") {
		return "want 1 to 36 of the characters A-Z a-z 0-9 _ -"
	}
	return ""
}

// clientID checks broker.client_id against the limits of AWS IoT Core, which also refuses an
// id that begins with $.
func clientID(v any) string {
	switch s := v.(string); {
	case len(s) > awsiot.ClientIDMax:
		return fmt.Sprintf("want at most %d bytes, not %d", awsiot.ClientIDMax, len(s))
	case strings.HasPrefix(s, "$"):
		return "must not begin with $"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

// username checks broker.username (MQTT 3.1.1, section 3.1.3.4).
func username(v any) string {
	switch s := v.(string); {
	case s == "" || len(s) > 65535:
		return "want 1 to 65535 bytes"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

// proxy checks broker.proxy.
func proxy(v any) string {
	text := v.(string)
	if text == "none" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "want http://host:port, http://user:password@host:port or none"
	}
	return ""
}

// alpn checks broker.alpn (RFC 7301, section 3.1).
func alpn(v any) string {
	if s := v.(string); s == "" || len(s) > 255 || strings.ContainsFunc(s, unicode.IsControl) {
		return "want a protocol name of 1 to 255 bytes, or none"
	}
	return ""
}

// derivedQuantity checks the name of a derived quantity.
func derivedQuantity(v any) string {
	var names []string
	for _, q := range filter.Derived() {
		names = append(names, q.Name)
	}
	return option.OneOf(names...)(v)
}

func brokerAt(v any) string {
	if _, err := endpoint.Parse(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

// listenAddress checks an address to listen on.
func listenAddress(v any) string {
	at, err := netip.ParseAddrPort(v.(string))
	if err != nil || at.Port() == 0 {
		return "want an IP address and a port, such as 127.0.0.1:9108 or [::1]:9108"
	}
	return ""
}

// hostName checks a name or an address by which this machine may be asked.
func hostName(v any) string {
	s := v.(string)
	if _, err := netip.ParseAddr(s); err != nil && !madeOf(s, 253, "._-") {
		return "want a host's name or its address, without a port"
	}
	return ""
}

func line(v any) string {
	if _, err := board.ParseLine(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

func pwmChannel(v any) string {
	if _, _, err := board.ParsePWM(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

// frequency checks a PWM output's. Above 100 kHz a hundredth of a percent would be less
// than the kernel's nanosecond.
func frequency(v any) string {
	if f := v.(output.Frequency); !(f >= 1 && f <= 100_000) {
		return "want 1Hz to 100kHz"
	}
	return ""
}

func fileName(v any) string {
	switch s := v.(string); {
	case strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(s, "-----"):
		return "want the name of a file, not its content"
	case s == "~" || strings.HasPrefix(s, "~/") || strings.HasPrefix(s, "$") || strings.HasPrefix(s, "%"):
		return "want the full path: ~, $ and % are not expanded"
	}
	return ""
}

// topicOf checks the placeholders of a topic. The loader checks the topic itself once they
// can be filled in; see topics.
func topicOf(placeholders ...string) func(any) string {
	return func(v any) string {
		if err := checkPlaceholders(v.(string), placeholders); err != nil {
			return err.Error()
		}
		return ""
	}
}

var errUnpaired = errors.New("has an unmatched brace; write a placeholder as {thing}")
