package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"fieldpost/sensors"
	"fieldpost/sensors/filter"
	"fieldpost/sensors/option"

	"gopkg.in/yaml.v3"
)

// chipKeys holds the own keys of the chip in a sensor's entry, while the entry is read. A nil one has
// none.
type chipKeys struct {
	config *sensors.Config
	chip   sensors.Chip // without a name if it is unknown
	values reflect.Value
}

// chipKeysOf prepares to read the own keys of a sensor's chip. It returns nil if the entry is not
// a sensor. In the file the key "chip" may come after the chip's keys.
func (l *loader) chipKeysOf(n *yaml.Node, path string, v reflect.Value) *chipKeys {
	c, ok := v.Addr().Interface().(*sensors.Config)
	if !ok {
		return nil
	}
	o := &chipKeys{config: c}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k, val := n.Content[i], n.Content[i+1]; k.Value == "chip" && val.Kind == yaml.ScalarNode {
			o.chip, _ = sensors.Lookup(val.Value)
			break
		}
	}
	if o.chip.Options.Defaults != nil {
		o.values = o.chip.Options.New()
	}
	return o
}

// read reads a key that only some chips have, and reports whether any chip has it. It only
// marks a key of another chip as given; [loader.sensor] refuses it. If the chip is not known,
// it reads the key by the rule of the first chip that has it.
func (o *chipKeys) read(l *loader, n *yaml.Node, path, key string) bool {
	if o == nil {
		return false
	}
	if o.chip.Options.Has(key) {
		f, _ := option.Field(o.values.Type(), key)
		l.nodes[path] = n
		l.chipValue(rule(o.chip.Options.Rules[key]), n, path, o.values.FieldByIndex(f))
		return true
	}
	for _, c := range sensors.Catalog() {
		if !c.Options.Has(key) {
			continue
		}
		l.nodes[path] = n
		if o.chip.Name == "" {
			r := rule(c.Options.Rules[key])
			if r.Loose != nil {
				r.Check, r.Meant = r.Loose, nil
			}
			v := c.Options.New()
			f, _ := option.Field(v.Type(), key)
			l.chipValue(r, n, path, v.FieldByIndex(f))
		}
		return true
	}
	return false
}

// chipValue reads the value of a chip's key: one value, or a list of entries.
func (l *loader) chipValue(r rule, n *yaml.Node, path string, v reflect.Value) {
	switch {
	case r.Item == nil:
		l.scalarBy(r, n, path, v)
		return
	case n.Kind == yaml.AliasNode: // plain has refused it
		return
	case n.Kind != yaml.SequenceNode:
		l.fail(path, "want a list, each entry after \"- \", not "+kindOf(n), "")
		return
	case len(n.Content) == 0 || len(n.Content) > r.Most:
		l.fail(path, fmt.Sprintf("want 1 to %d entries, not %d", r.Most, len(n.Content)), "")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		list.Index(i).Set(reflect.ValueOf(r.Item))
		at := fmt.Sprintf("%s[%d]", path, i)
		if !l.entry(r, item, at, list.Index(i)) || r.Entry == nil {
			continue
		}
		if key, reason := r.Entry(list.Interface(), i); reason != "" {
			shown := ""
			if f, ok := option.Field(list.Index(i).Type(), key); ok && l.given(join(at, key)) {
				shown = fmt.Sprint(list.Index(i).FieldByIndex(f))
			}
			l.fail(join(at, key), reason, shown)
		}
	}
	v.Set(list)
}

// entry reads an entry of a chip's list, and reports whether it has no mistake.
func (l *loader) entry(r rule, n *yaml.Node, path string, v reflect.Value) (sound bool) {
	l.nodes[path] = n
	before := len(l.errs) + l.dropped
	if n.Kind != yaml.MappingNode {
		l.fail(path, "want keys with values, not "+kindOf(n), "")
		return false
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		f, ok := option.Field(v.Type(), k.Value)
		switch {
		case k.Kind != yaml.ScalarNode:
			l.add(k.Line, path, "want a plain word as a key", "")
		case isMerge(k): // plain has refused it
			return false
		case lines[k.Value] > 0:
			l.add(k.Line, path, fmt.Sprintf("duplicate key %q, first on line %d", printable(k.Value), lines[k.Value]), "")
		case !ok:
			l.add(k.Line, path, unknown("key", k.Value, option.Keys(v.Type())), "")
		case val.Kind == yaml.AliasNode: // plain has refused it
			return false
		default:
			l.nodes[join(path, k.Value)] = val
			l.scalarBy(rule(r.Items[k.Value]), val, join(path, k.Value), v.FieldByIndex(f))
		}
		lines[k.Value] = k.Line
	}
	for _, k := range option.Keys(v.Type()) {
		if r.Items[k].Required && lines[k] == 0 {
			l.fail(join(path, k), "is missing", "")
		}
	}
	return len(l.errs)+l.dropped == before
}

// keys returns the keys that the user may have meant: the chip's, or those of all chips if
// the chip is unknown.
func (o *chipKeys) keys() []string {
	if o == nil {
		return nil
	}
	if o.chip.Name != "" {
		return o.chip.Options.Keys()
	}
	return allChipKeys()
}

// finish stores the options in the sensor's configuration.
func (o *chipKeys) finish() {
	if o != nil && o.values.IsValid() {
		o.config.Options = o.values.Interface()
	}
}

// allChipKeys returns the own keys of all chips.
var allChipKeys = sync.OnceValue(func() (all []string) {
	for _, c := range sensors.Catalog() {
		for _, k := range c.Options.Keys() {
			if !slices.Contains(all, k) {
				all = append(all, k)
			}
		}
	}
	return all
})

// sensor checks a sensor's entry against its chip, and fills in the chip's defaults.
func (l *loader) sensor(path string, s *sensors.Config) {
	chip, known := l.chip(path+".chip", s.Chip)
	if !known {
		return
	}
	for _, k := range allChipKeys() {
		l.chipKey(path, k, chip)
	}
	if !l.given(path + ".every") {
		s.Every = chip.Every
	}
	if chip.EveryMost > 0 && s.Every > chip.EveryMost && l.sound(path+".every") {
		l.fail(path+".every", fmt.Sprintf("chip %s must be read at least every %s, or its values are wrong; a filter delta sends fewer readings", chip.Name, option.Duration(chip.EveryMost)), option.Duration(s.Every))
	}
	if check := chip.Options.Together; check != nil {
		if key, reason := check(s.Options, func(key string) bool { return l.given(join(path, key)) }); reason != "" && l.sound(join(path, key)) {
			l.fail(join(path, key), reason, "")
		}
	}
	l.filters(path, s, chip)
}

// filters checks a sensor's filters and derived quantities, unless one of their values has
// been refused.
func (l *loader) filters(path string, s *sensors.Config, chip sensors.Chip) {
	for refused := range l.refused {
		if strings.HasPrefix(refused, path+".filters") || strings.HasPrefix(refused, path+".derive") || refused == path+".altitude" {
			return
		}
	}
	given := func(key string) bool { return l.given(join(path, key)) }
	for _, p := range filter.Check(chip, *s, given) {
		l.fail(join(path, p.Key), p.Reason, p.Value)
	}
}

// chip looks up a chip in the catalog.
func (l *loader) chip(path, name string) (chip sensors.Chip, known bool) {
	if name == "" || !l.sound(path) {
		return chip, false
	}
	if chip, known = sensors.Lookup(name); !known {
		var all []string
		for _, c := range sensors.Catalog() {
			all = append(all, c.Name)
		}
		l.fail(path, unknownChip(name, all), "")
	}
	return chip, known
}

// chipKey refuses a key that the chip does not have, and reports a required key that is
// missing.
func (l *loader) chipKey(path, key string, chip sensors.Chip) {
	switch given := l.given(path + "." + key); {
	case given && !chip.Options.Has(key):
		takes := strings.Join(append([]string{"every"}, chip.Options.Keys()...), ", ")
		l.fail(path+"."+key, fmt.Sprintf("chip %s does not have this key; it has %s", chip.Name, takes), "")
	case !given && chip.Options.Rules[key].Required:
		l.fail(path+"."+key, fmt.Sprintf("is missing; chip %s needs it", chip.Name), "")
	}
}
