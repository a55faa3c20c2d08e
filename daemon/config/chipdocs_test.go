package config

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/goldentest"
	"fieldpost/sensors"
	"fieldpost/sensors/option"
)

// sensorsDir is the room whose README is made here: its own tests may not import goldentest.
const sensorsDir = "../../sensors"

// chipNotes is what people have written of a chip, in sensors/chips.md.
type chipNotes struct {
	wiring, also, keys string
	wrong              []string // what goes wrong with it
}

// readNotes reads sensors/chips.md, by chip.
func readNotes(t *testing.T) map[string]*chipNotes {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sensorsDir, "chips.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*chipNotes{}
	var notes *chipNotes
	for i, line := range strings.Split(string(text), "\n") {
		fail := func(what string) { t.Errorf("chips.md:%d: %s: %q", i+1, what, line) }
		head, rest, _ := strings.Cut(line, " ")
		switch {
		case head == "#":
			notes = &chipNotes{}
			for _, name := range strings.Fields(rest) {
				if _, known := sensors.Lookup(name); !known || all[name] != nil {
					fail("a chip that is not in the catalog, or has notes already")
				}
				all[name] = notes
			}
		case line == "" || notes == nil: // the introduction
		case head == "wiring:":
			notes.wiring = rest
		case head == "also:":
			notes.also = rest
		case head == "keys:":
			notes.keys = rest
		case head == "-" && len(rest) > 20:
			notes.wrong = append(notes.wrong, rest)
		default:
			fail("want a heading, wiring:, also:, keys: or an entry of a list")
		}
	}
	return all
}

// keyDoc is the comment of a field, as text of a list: without the field's name.
func keyDoc(docs map[string]string, t reflect.Type, index []int) string {
	for _, i := range index[:len(index)-1] {
		t = t.Field(i).Type
	}
	f := t.Field(index[len(index)-1])
	var sentences []string
	for _, s := range strings.SplitAfter(docs[t.Name()+"."+f.Name], ". ") {
		if !strings.ContainsAny(s, "[]") { // it is for who writes Go
			sentences = append(sentences, s)
		}
	}
	doc := strings.TrimSpace(strings.Join(sentences, ""))
	for _, verb := range []string{" is ", " are ", " "} {
		if rest, ok := strings.CutPrefix(doc, f.Name+verb); ok {
			return strings.TrimSuffix(rest, ".")
		}
	}
	return strings.TrimSuffix(doc, ".")
}

// chipDocs makes the section of a chip.
type chipDocs struct {
	strings.Builder
	t     *testing.T
	docs  map[string]string
	notes map[string]*chipNotes
}

func (d *chipDocs) line(format string, a ...any) { fmt.Fprintf(d, format+"\n", a...) }

// number writes a limit with few digits.
func number(x float64) string {
	if math.Abs(x) >= 1e7 {
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	return strings.Replace(strconv.FormatFloat(x, 'f', -1, 64), "-", "−", 1)
}

// measures lists quantities with units and limits.
func measures(c sensors.Chip) string {
	var all []string
	for _, q := range c.Quantities {
		name := "`" + q.Name + "`"
		if c.Channels {
			name = "`" + q.Name + "`, `" + q.Name + "_…`"
		}
		switch unit := q.Symbol(); {
		case q.Unit == "":
			all = append(all, name+" (true or false)")
		case math.IsInf(q.Min, 0) || math.IsInf(q.Max, 0) || math.Abs(q.Max) >= 1e30:
			all = append(all, strings.TrimSpace(name+" "+unit))
		default:
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s to %s %s", name, number(q.Min), number(q.Max), unit)))
		}
	}
	if len(all) == 0 {
		return "what its table says"
	}
	return strings.Join(all, "; ")
}

// keys lists the chip's keys with their defaults.
func (d *chipDocs) keys(c sensors.Chip) {
	if len(c.Options.Keys()) == 0 {
		return
	}
	v := c.Options.New()
	d.line("")
	d.line("| key | default | meaning |")
	d.line("|---|---|---|")
	row := func(prefix string, v reflect.Value, k string, r option.Rule) {
		index, _ := option.Field(v.Type(), k)
		f := v.FieldByIndex(index)
		shown := shownDefault(f, k, r)
		doc := keyDoc(d.docs, v.Type(), index)
		if doc == "" {
			d.t.Errorf("%s: key %s%s has no comment", c.Name, prefix, k)
		}
		d.line("| `%s%s` | %s | %s |", prefix, k, shown, strings.ReplaceAll(doc, "|", "\\|"))
	}
	for _, k := range c.Options.Keys() {
		r := c.Options.Rules[k]
		row("", v, k, r)
		if r.Item == nil {
			continue
		}
		entry := reflect.New(reflect.TypeOf(r.Item)).Elem()
		entry.Set(reflect.ValueOf(r.Item))
		for _, sub := range option.Keys(entry.Type()) {
			row(k+"[].", entry, sub, r.Items[sub])
		}
	}
}

// shownDefault is a default as people write it.
func shownDefault(f reflect.Value, key string, r option.Rule) string {
	switch x := f.Interface().(type) {
	case time.Duration:
		if x == 0 {
			return "none"
		}
		return "`" + option.Duration(x) + "`"
	case bool:
		if x {
			return "`on`"
		}
		return "`off`"
	case uint16:
		if key == "address" {
			return fmt.Sprintf("`0x%02x`", x)
		}
	}
	switch {
	case r.Required:
		return "must be given"
	case f.Kind() == reflect.Slice, f.Kind() == reflect.String && f.Len() == 0:
		return "none"
	case f.Type() == reflect.TypeFor[sensors.Channels]():
		return "all"
	case key == "max_edges", key == "max_rate":
		return fmt.Sprintf("`%v/s`", f.Interface())
	}
	return fmt.Sprintf("`%v`", f.Interface())
}

// usualWiring is the wiring of modules on a bus; "" if there is none.
func usualWiring(c sensors.Chip) string {
	if c.Addresses != nil {
		return "VIN (VCC) to pin 1 (3.3 V), GND to pin 9, SDA to pin 3, SCL to pin 5; `dtparam=i2c_arm=on` in config.txt: bus `i2c-1`."
	}
	return ""
}

// example is a whole configuration with the chip.
func (d *chipDocs) example(c sensors.Chip, n *chipNotes) {
	entry := "name: " + c.Name + ", chip: " + c.Name
	switch {
	case c.Addresses != nil:
		entry += fmt.Sprintf(", bus: i2c-1, address: 0x%02x", c.Addresses[0])
	case c.Options.Rules["device"].Wants == sensors.WantsPort && c.Options.Has("unit_id"):
		entry += ", device: ttyUSB0"
	case c.Options.Rules["device"].Wants == sensors.WantsPort:
		entry += ", device: /dev/serial0"
	case strings.Contains(c.Options.Rules["device"].Wants, "SPI"):
		entry += ", device: spidev0.0"
	}
	if n.keys != "" {
		entry += ", " + n.keys
	}
	d.line("")
	d.line("```yaml")
	d.line("thing: thing-greenhouse")
	d.line("broker: {endpoint: broker.example}")
	d.line("readings: {topic: test/topic}")
	d.line("sensors:")
	d.line("  - {%s}", entry)
	d.line("```")
}

func (d *chipDocs) chip(c sensors.Chip) {
	n := d.notes[c.Name]
	if n == nil || len(n.wrong) == 0 {
		d.t.Errorf("chip %s has no section in sensors/chips.md: add what goes wrong with it, and then `make docs`", c.Name)
		return
	}
	d.line("")
	d.line("### %s", c.Name)
	d.line("")
	d.line("%s%s.", strings.ToUpper(c.Title[:1]), c.Title[1:])
	d.line("")
	d.line("- Measures %s.", measures(c))
	if c.Addresses != nil {
		d.line("- I2C address %s.", sensors.AddressList(c.Addresses))
	}
	rest := ""
	if c.EveryMost > 0 {
		rest = fmt.Sprintf(", and at least every %s", option.Duration(c.EveryMost))
	}
	if c.WarmUp > 0 {
		rest += fmt.Sprintf("; its first value may take %s", option.Duration(c.WarmUp))
	}
	d.line("- Read every %s, unless `every` says otherwise%s.", option.Duration(c.Every), rest)
	wiring := strings.TrimSpace(cmp.Or(n.wiring, usualWiring(c)) + " " + n.also)
	if wiring == "" {
		d.t.Errorf("chip %s has no wiring in sensors/chips.md", c.Name)
	}
	d.line("- Wiring: %s", wiring)
	d.line("- Source: %s.", strings.TrimSuffix(c.Source, "."))
	d.keys(c)
	d.example(c, n)
	d.line("")
	d.line("What goes wrong:")
	d.line("")
	for _, w := range n.wrong {
		d.line("- %s", w)
	}
}

// The table of chips, and the section of each, are made from the catalog, the comments of the
// chips' options and sensors/chips.md.
func TestDocsChips(t *testing.T) {
	d := &chipDocs{t: t, docs: goldentest.Comments(t, sensorsDir), notes: readNotes(t)}
	var table strings.Builder
	fmt.Fprintf(&table, "\n| chip | what it is | quantities |\n|---|---|---|\n")
	for _, c := range sensors.Catalog() {
		var names []string
		for _, q := range c.Quantities {
			names = append(names, "`"+q.Name+"`")
		}
		if c.Measures != nil {
			names = append(names, "what its table says")
		}
		fmt.Fprintf(&table, "| [`%s`](#%s) | %s | %s |\n", c.Name, c.Name, c.Title, strings.Join(slices.Compact(names), ", "))
		d.chip(c)
	}
	table.WriteString("\n")
	d.line("")
	if t.Failed() {
		return
	}
	readme := filepath.Join(sensorsDir, "README.md")
	goldentest.Section(t, readme, "table of chips", table.String())
	goldentest.Section(t, readme, "each chip", d.String())
}

// Each chip has a section with each part, so that a person finds the same of all.
func TestChipSections(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(sensorsDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range sensors.Catalog() {
		_, section, found := strings.Cut(string(text), "\n### "+c.Name+"\n")
		section, _, _ = strings.Cut(section, "\n### ")
		for _, part := range []string{"\n- Measures ", "\n- Read every ", "\n- Wiring: ", "\n- Source: ", "\n```yaml\n", "chip: " + c.Name, "\nWhat goes wrong:\n\n- "} {
			if !found || !strings.Contains(section, part) {
				t.Errorf("the section of %s lacks %q", c.Name, part)
			}
		}
		for _, k := range c.Options.Keys() {
			if !strings.Contains(section, "| `"+k+"` |") {
				t.Errorf("the section of %s lacks the key %s", c.Name, k)
			}
		}
	}
}
