package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fieldpost/daemon/goldentest"
	"fieldpost/sensors"
	"fieldpost/sensors/filter"
)

// keyPlace is a section of the file.
type keyPlace struct {
	title string
	keys  []refKey
}

// keyPlaces lists the sections of the configuration, and then the chips with keys of their own.
func keyPlaces(t testing.TB) (all []keyPlace, chips []chipKey) {
	d := newDescriber(t)
	var add func(s *refSection)
	add = func(s *refSection) {
		p := keyPlace{title: cmp.Or(s.path, "the file")}
		var below []*refSection
		for _, k := range s.keys {
			if k.item != nil {
				below = append(below, k.item)
				if k.doc == "" {
					continue
				}
			}
			p.keys = append(p.keys, k)
		}
		all = append(all, p)
		for _, b := range below {
			add(b)
		}
	}
	add(d.file())
	return all, d.allChipKeys()
}

// chipKey is a key that some chips have, with the same meaning.
type chipKey struct {
	refKey
	chips []string
}

func (d *describer) allChipKeys() (all []chipKey) {
	for _, c := range sensors.Catalog() {
		for _, k := range d.chipKeys(c) {
			if k.name == "address" {
				k.values, k.def = "one of the chip's", ""
				k.schema = nil
			}
			same := func(o chipKey) bool {
				return o.name == k.name && o.doc == k.doc && o.def == k.def && o.required == k.required && o.values == k.values && reflect.DeepEqual(o.schema, k.schema)
			}
			if i := slices.IndexFunc(all, same); i >= 0 {
				all[i].chips = append(all[i].chips, c.Name)
				continue
			}
			all = append(all, chipKey{k, []string{c.Name}})
		}
	}
	slices.SortStableFunc(all, func(a, b chipKey) int { return strings.Compare(a.name, b.name) })
	return all
}

// row is a key as a row of a table.
func row(k refKey, first string) string {
	def := "-"
	switch {
	case k.required:
		def = "must be given"
	case k.def != "":
		def = "`" + k.def + "`"
	}
	values := k.values
	switch {
	case k.item != nil && k.list:
		values = "a list"
	case k.item != nil:
		values = "keys"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", first, values, def, k.doc)
}

// configs/README.md has all keys; `make docs` writes them.
func TestDocsKeys(t *testing.T) {
	places, chips := keyPlaces(t)
	var b strings.Builder
	for _, p := range places {
		fmt.Fprintf(&b, "\n**%s**\n\n| key | values | default | meaning |\n|---|---|---|---|\n", strings.ReplaceAll("`"+p.title+"`", "`the file`", "the file"))
		for _, k := range p.keys {
			b.WriteString(row(k, "`"+k.name+"`"))
		}
		if p.title == "sensors[].filters[]" {
			b.WriteString("\n| filter | needs | also takes |\n|---|---|---|\n")
			for _, name := range filter.Names() {
				needs, takes := filter.Keys(name)
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, quoted(needs), quoted(append([]string{"quantity"}, takes...)))
			}
		}
	}
	b.WriteString("\n**`sensors[]`, by chip**\n\n| key | values | default | meaning | chips |\n|---|---|---|---|---|\n")
	for _, k := range chips {
		fmt.Fprintf(&b, "%s %s |\n", strings.TrimSuffix(row(k.refKey, "`"+k.name+"`"), "\n"), quoted(k.chips))
		if k.item != nil {
			for _, own := range k.item.keys {
				fmt.Fprintf(&b, "%s %s |\n", strings.TrimSuffix(row(own, "`"+k.name+"[]."+own.name+"`"), "\n"), quoted(k.chips))
			}
		}
	}
	text := b.String() + "\n"
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "|") && !slices.Contains([]int{4, 5, 6}, strings.Count(line, "|")) {
			t.Errorf("a key breaks the table: %s", line)
		}
	}
	goldentest.Section(t, "../../configs/README.md", "keys", text)
}

func quoted(words []string) string {
	if len(words) == 0 {
		return "-"
	}
	return "`" + strings.Join(words, "`, `") + "`"
}

// configs/README.md has all fields of readings.
func TestDocsFields(t *testing.T) {
	type field struct {
		name, unit string
		chips      []string
	}
	var all []field
	add := func(q sensors.Quantity, source string) {
		i := slices.IndexFunc(all, func(f field) bool { return f.name == q.Name && f.unit == q.Unit })
		if i < 0 {
			i = len(all)
			all = append(all, field{name: q.Name, unit: q.Unit})
		}
		if !slices.Contains(all[i].chips, source) {
			all[i].chips = append(all[i].chips, source)
		}
	}
	for _, c := range sensors.Catalog() {
		for _, q := range c.Quantities {
			add(q, "`"+c.Name+"`")
		}
	}
	for _, q := range filter.Derived() {
		add(q, "`derive`")
	}
	slices.SortFunc(all, func(a, b field) int { return strings.Compare(a.name+a.unit, b.name+b.unit) })
	var b strings.Builder
	b.WriteString("\n| field | unit (UCUM) | from |\n|---|---|---|\n")
	for _, f := range all {
		unit := "true or false"
		if f.unit != "" {
			unit = "`" + f.unit + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, unit, strings.Join(f.chips, ", "))
	}
	goldentest.Section(t, "../../configs/README.md", "fields", b.String()+"\n")
}

// roff writes a text for a manual page: backslashes and dashes are not commands.
var roff = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "", "'", `\(aq`)

// deploy/man/fieldpost.yaml.5 has all keys.
func TestDocsManOfTheConfiguration(t *testing.T) {
	places, chips := keyPlaces(t)
	var b strings.Builder
	b.WriteString(`.\" Made by "make docs".
.TH FIELDPOST.YAML 5 "" fieldpost fieldpost
.SH NAME
fieldpost.yaml \- the configuration of fieldpost
.SH DESCRIPTION
fieldpost(1) reads \fI/etc/fieldpost/fieldpost.yaml\fR, a file in YAML: lines are "key: value", and what belongs to a key
is below it, indented by two more spaces. Times have a unit: 500ms, 10s, 5m, 12h. Relative paths are relative to the file.
.PP
.B fieldpost check
lists the mistakes of a file,
.B fieldpost diff
what a reload would change, and
.B fieldpost schema
prints a JSON Schema for editors.
`)
	entry := func(k refKey, name, more string) {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff.Replace(name), roff.Replace(k.doc))
		if k.item == nil && k.values != "" {
			fmt.Fprintf(&b, "Values: %s.\n", roff.Replace(k.values))
		}
		switch {
		case k.required:
			b.WriteString("Must be given.\n")
		case k.def != "" && k.item == nil:
			fmt.Fprintf(&b, "Default: %s.\n", roff.Replace(k.def))
		}
		b.WriteString(roff.Replace(more))
	}
	for _, p := range places {
		fmt.Fprintf(&b, ".SH \"%s\"\n", strings.ToUpper(roff.Replace(p.title)))
		for _, k := range p.keys {
			entry(k, k.name, "")
		}
	}
	b.WriteString(".SH \"KEYS OF CHIPS\"\nThese stand in an entry of sensors, beside the keys that all have.\n")
	for _, k := range chips {
		entry(k.refKey, k.name, "Chips: "+strings.Join(k.chips, ", ")+".\n")
		if k.item != nil {
			for _, own := range k.item.keys {
				entry(own, k.name+"[]."+own.name, "")
			}
		}
	}
	b.WriteString(".SH \"SEE ALSO\"\n.BR fieldpost (1),\n.BR fieldpost\\-reference (7)\n")
	for line := range strings.SplitSeq(b.String(), "\n") {
		if strings.HasPrefix(line, `\(aq`) || strings.HasPrefix(line, ".") && !slices.Contains([]string{".TH", ".SH", ".TP", ".B", ".BR", ".PP", `.\"`}, strings.Fields(line)[0]) {
			t.Errorf("a text has become a command of roff: %s", line)
		}
	}
	goldentest.File(t, "../../deploy/man/fieldpost.yaml.5", []byte(b.String()))
}
