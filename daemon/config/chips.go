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

// own holds the keys of an entry that belong to its chip, while the entry is read. A nil
// own has none.
type own struct {
	config *sensors.Config
	chip   sensors.Chip // without a name if it is unknown
	values reflect.Value
}

// ownOf returns the own keys of a sensor's chip, and nil for an entry that is no sensor. In
// the file the chip may come after its keys.
func (l *loader) ownOf(n *yaml.Node, path string, v reflect.Value) *own {
	c, ok := v.Addr().Interface().(*sensors.Config)
	if !ok {
		return nil
	}
	o := &own{config: c}
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

// read reads a key that not all sensors have, and reports whether there is such a key. A
// key of another chip is only noted; [loader.sensor] refuses it. Without a chip, the key is
// read as for the first chip that has it.
func (o *own) read(l *loader, n *yaml.Node, path, key string) bool {
	if o == nil {
		return false
	}
	if o.chip.Options.Has(key) {
		f, _ := option.Field(o.values.Type(), key)
		l.nodes[path] = n
		l.scalarBy(rule(o.chip.Options.Rules[key]), n, path, o.values.FieldByIndex(f))
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
			l.scalarBy(r, n, path, v.FieldByIndex(f))
		}
		return true
	}
	return false
}

// keys returns the keys that may have been meant: the chip's, or if the chip is unknown,
// those of all chips.
func (o *own) keys() []string {
	if o == nil {
		return nil
	}
	if o.chip.Name != "" {
		return o.chip.Options.Keys()
	}
	return ownKeys()
}

// finish stores the options in the sensor's configuration.
func (o *own) finish() {
	if o != nil && o.values.IsValid() {
		o.config.Options = o.values.Interface()
	}
}

// ownKeys holds the own keys of all chips.
var ownKeys = sync.OnceValue(func() (all []string) {
	for _, c := range sensors.Catalog() {
		for _, k := range c.Options.Keys() {
			if !slices.Contains(all, k) {
				all = append(all, k)
			}
		}
	}
	return all
})

// sensor checks an entry by its chip, and fills in the chip's defaults.
func (l *loader) sensor(path string, s *sensors.Config) {
	chip, known := l.chip(path+".chip", s.Chip)
	if !known {
		return
	}
	for _, k := range ownKeys() {
		l.chipKey(path, k, chip)
	}
	if !l.given(path + ".every") {
		s.Every = chip.Every
	}
	l.filters(path, s, chip)
}

// filters checks a sensor's filters and what it derives, unless a value in them was refused already.
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

// chip finds a chip in the catalog.
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

// chipKey refuses a key that the chip does not have, and reports a key that it needs and
// that is missing.
func (l *loader) chipKey(path, key string, chip sensors.Chip) {
	switch given := l.given(path + "." + key); {
	case given && !chip.Options.Has(key):
		takes := strings.Join(append([]string{"every"}, chip.Options.Keys()...), ", ")
		l.fail(path+"."+key, fmt.Sprintf("chip %s does not have this key; it has %s", chip.Name, takes), "")
	case !given && chip.Options.Rules[key].Required:
		l.fail(path+"."+key, fmt.Sprintf("is missing; chip %s needs it", chip.Name), "")
	}
}
