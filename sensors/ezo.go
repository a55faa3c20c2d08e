package sensors

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/option"
)

// Atlas Scientific's EZO circuits for probes in water: pH, conductivity, dissolved oxygen, redox
// potential and PT-1000, on I2C.
//
// Sources: Atlas Scientific, EZO-pH V5.9 (October 2021), EZO-EC V6.2 (September 2020), EZO-DO V5.4
// (July 2020) and V4.1 (December 2017), EZO-ORP and EZO-RTD: sections "I2C mode".
//
// Commands and answers are text. A command is written, and its answer read some time later: one
// byte that says whether there is an answer, and the answer, which ends with a zero. The probe's
// calibration is in the circuit and is the user's; it survives a loss of power. The temperature
// for its compensation does not. So the driver sets it, and asks for it after each value. It also
// asks after each value what the circuit outputs and in which unit, because that is a setting of
// the circuit too.
//
// On Raspberry Pis before the Pi 5 the highest bit of bytes that follow the first is sometimes
// wrong, because the circuit stretches the clock. Answers are plain ASCII, so the driver drops
// that bit, as Atlas's own programs for the Pi do.

// EZO are the keys of a circuit whose values depend on the water's temperature.
type EZO struct {
	I2C
	// Temperature is that of the water in degrees Celsius, for the compensation.
	Temperature float64 `yaml:"temperature"`
}

// ezoKind is one of the circuits.
type ezoKind struct {
	device string // its name for itself
	takes  time.Duration
	heats  bool     // has a temperature for compensation
	asks   string   // the command for what it outputs; "" if that is fixed
	want   []string // what it may output, in order; the first is our value
	scale  float64
}

var ezoKinds = map[string]ezoKind{
	"ezoph":  {device: "pH", takes: 900 * time.Millisecond, heats: true, scale: 1},
	"ezoec":  {device: "EC", takes: 600 * time.Millisecond, heats: true, asks: "O,?", want: []string{"EC", "TDS", "S", "SAL", "SG"}, scale: 1e-4}, // µS/cm
	"ezodo":  {device: "D.O.", takes: 600 * time.Millisecond, heats: true, asks: "O,?", want: []string{"mg"}, scale: 1},
	"ezoorp": {device: "ORP", takes: 900 * time.Millisecond, scale: 1},
	"ezortd": {device: "RTD", takes: 600 * time.Millisecond, asks: "S,?", scale: 1},
}

var (
	ezoPH  = ezoChip("ezoph", "Atlas Scientific EZO-pH: pH of water", "EZO-pH V5.9, October 2021", 0x63, 25, Quantity{Name: "ph", Unit: "[pH]", Min: 0, Max: 14})
	ezoEC  = ezoChip("ezoec", "Atlas Scientific EZO-EC: conductivity of water", "EZO-EC V6.2, September 2020", 0x64, 25, Quantity{Name: "conductivity", Unit: "S/m", Min: 0, Max: 100})
	ezoDO  = ezoChip("ezodo", "Atlas Scientific EZO-DO: oxygen dissolved in water", "EZO-DO V5.4, July 2020", 0x61, 20, Quantity{Name: "dissolved_oxygen", Unit: "mg/L", Min: 0, Max: 400})
	ezoORP = ezoChip("ezoorp", "Atlas Scientific EZO-ORP: redox potential of water", "EZO-ORP datasheet", 0x62, 0, Quantity{Name: "orp", Unit: "mV", Min: -1020, Max: 1020})
	ezoRTD = ezoChip("ezortd", "Atlas Scientific EZO-RTD: PT-1000", "EZO-RTD datasheet", 0x66, 0, Quantity{Name: "temperature", Unit: "Cel", Min: -126, Max: 1254})
)

// ezoAddresses returns the addresses of a circuit: its own first, then those that it may be
// given. A circuit accepts any address; these are far from those of other kinds of chips.
func ezoAddresses(usual uint16) []uint16 {
	all := []uint16{usual}
	for a := uint16(0x61); a <= 0x6F; a++ {
		if a != usual {
			all = append(all, a)
		}
	}
	return all
}

func ezoChip(name, title, source string, usual uint16, celsius float64, q Quantity) Chip {
	c := Chip{
		Name: name, Title: title, Source: source, Addresses: ezoAddresses(usual), Quantities: []Quantity{q},
		Every: 10 * time.Second, Worst: 5 * time.Second,
	}
	kind := ezoKinds[name]
	if !kind.heats {
		return deviceChip(c, func(w *wire) device { return &ezoDevice{wire: w, ezoKind: kind} })
	}
	rules := i2cRules(c.Addresses)
	rules["temperature"] = option.Rule{Wants: "degrees Celsius such as 18.5", Check: option.Between(0.1, 126, volts)}
	c.Options = option.Set{Defaults: EZO{I2C{Address: usual}, celsius}, Rules: rules}
	return deviceWith(c, func(w *wire, o EZO) (device, []Quantity) {
		return &ezoDevice{wire: w, ezoKind: kind, celsius: o.Temperature}, c.Quantities
	})
}

const (
	ezoLength = 41 // the status, 39 characters and a zero
	ezoTakes  = 300 * time.Millisecond

	ezoDone    = 1
	ezoSyntax  = 2
	ezoPending = 254
	ezoNoData  = 255
)

type ezoDevice struct {
	*wire
	ezoKind
	celsius float64
}

// ask sends a command and returns the words of its answer.
func (d *ezoDevice) ask(command string, takes time.Duration) ([]string, error) {
	if err := d.send([]byte(command)...); err != nil {
		return nil, err
	}
	answer := make([]byte, ezoLength)
	for tries := 10; ; tries-- {
		d.pause(takes)
		if err := d.Tx(d.addr, nil, answer); err != nil {
			return nil, err
		}
		if answer[0] != ezoPending {
			return ezoWords(command, answer)
		}
		if tries == 0 {
			return nil, faultf("the answer to %q does not come", command)
		}
		takes = 100 * time.Millisecond
	}
}

// ezoWords decodes an answer.
func ezoWords(command string, answer []byte) ([]string, error) {
	switch answer[0] {
	case ezoDone:
	case ezoSyntax:
		return nil, faultf("it does not know the command %q", command)
	case ezoNoData:
		return nil, faultf("it has no answer to %q: it lost its power or was exchanged meanwhile, or SDA is held high", command)
	default:
		return nil, faultf("its answer to %q begins with %#02x: it is no EZO circuit", command, answer[0])
	}
	var text strings.Builder
	for _, b := range answer[1:] {
		switch b &= 0x7F; {
		case b == 0:
			return strings.Split(text.String(), ","), nil
		case b < ' ' || b > '~':
			return nil, faultf("its answer to %q is no text: % x", command, answer)
		}
		text.WriteByte(b)
	}
	return nil, faultf("its answer to %q has no end: % x", command, answer)
}

// setting asks for a setting, and returns the words after its name.
func (d *ezoDevice) setting(command string) ([]string, error) {
	words, err := d.ask(command, ezoTakes)
	if err != nil {
		return nil, err
	}
	name := command[:1]
	if len(words) > 1 && words[0] == "?" { // "?,O,%,mg" of some firmware
		words = append([]string{"?" + words[1]}, words[2:]...)
	}
	if !strings.EqualFold(words[0], "?"+name) {
		return nil, faultf("its answer to %q is %q", command, strings.Join(words, ","))
	}
	return words[1:], nil
}

// setup checks what the circuit is, and sets the temperature.
func (d *ezoDevice) setup() error {
	words, err := d.setting("i")
	if err != nil {
		return err
	}
	if len(words) == 0 || !strings.EqualFold(words[0], d.device) {
		return faultf("it is an EZO circuit for %s, not for %s", strings.Join(words, " "), d.device)
	}
	if d.heats {
		_, err = d.ask("T,"+strconv.FormatFloat(d.celsius, 'f', 2, 64), ezoTakes)
	}
	return err
}

func (d *ezoDevice) measure() ([]float64, error) {
	words, err := d.ask("R", d.takes)
	if err != nil {
		return nil, err
	}
	at, err := d.place(words)
	if err != nil {
		return nil, err
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(words[at.field]), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, faultf("its reading is %q", strings.Join(words, ","))
	}
	if err := d.heldTemperature(); err != nil {
		return nil, err
	}
	return []float64{round(at.convert(v)*d.scale, 1e-7)}, nil
}

// ezoPlace says which word of a reading is the value, and how it becomes our unit.
type ezoPlace struct {
	field   int
	convert func(float64) float64
}

// place asks the circuit what it outputs.
func (d *ezoDevice) place(words []string) (ezoPlace, error) {
	as := func(v float64) float64 { return v }
	if d.asks == "" {
		if len(words) != 1 {
			return ezoPlace{}, faultf("its reading is %q", strings.Join(words, ","))
		}
		return ezoPlace{0, as}, nil
	}
	setting, err := d.setting(d.asks)
	if err != nil {
		return ezoPlace{}, err
	}
	if d.want != nil {
		field := slices.Index(setting, d.want[0])
		known := !slices.ContainsFunc(setting, func(s string) bool { return !slices.Contains(d.want, s) })
		if field < 0 || !known || len(words) != len(setting) {
			return ezoPlace{}, faultf("it outputs %s, and its reading is %q: it must output %s, and at most %s; send it the command O,%s,1, and O,...,0 for the others",
				strings.Join(setting, ", "), strings.Join(words, ","), d.want[0], strings.Join(d.want, ", "), d.want[0])
		}
		return ezoPlace{field, as}, nil
	}
	switch unit := strings.ToLower(strings.Join(setting, ",")); {
	case len(words) != 1:
	case unit == "c":
		return ezoPlace{0, as}, nil
	case unit == "k":
		return ezoPlace{0, func(v float64) float64 { return v - 273.15 }}, nil
	case unit == "f":
		return ezoPlace{0, func(v float64) float64 { return (v - 32) / 1.8 }}, nil
	}
	return ezoPlace{}, faultf("its scale is %q, and its reading %q", strings.Join(setting, ","), strings.Join(words, ","))
}

// heldTemperature checks that the circuit has compensated with the temperature that was set.
func (d *ezoDevice) heldTemperature() error {
	if !d.heats {
		return nil
	}
	words, err := d.setting("T,?")
	if err != nil {
		return err
	}
	got, err := strconv.ParseFloat(strings.Join(words, ","), 64)
	if err != nil || math.Abs(got-d.celsius) > 0.011 {
		return faultf("its temperature for compensation is %s (was set to %.2f): the circuit lost its power or was exchanged, or another program sets it", fmt.Sprint(words), d.celsius)
	}
	return nil
}

// sleep leaves the circuit awake: after a sleep its first readings are not good.
func (d *ezoDevice) sleep() error { return nil }
