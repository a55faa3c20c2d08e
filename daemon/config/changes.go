package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"fieldpost/sensors/option"
)

// Change is a setting that two configurations have different values for.
type Change struct {
	Path          string // "readings.batch.max"
	Before, After string // the values; never a secret
}

// ChangedSettings returns the settings, other than those of sensors and outputs, in which
// two configurations differ, in the order of the reference. Any goroutine.
func ChangedSettings(before, after *Config) []Change {
	return changes("", reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem())
}

// changes compares two values of one type; path is their path in the file.
func changes(path string, before, after reflect.Value) (all []Change) {
	switch {
	case before.Kind() == reflect.Slice && before.Type().Elem().Kind() == reflect.Struct: // sensors and outputs
	case before.Kind() == reflect.Slice:
		if !slices.Equal(before.Interface().([]string), after.Interface().([]string)) {
			all = append(all, Change{path, strings.Join(before.Interface().([]string), ", "), strings.Join(after.Interface().([]string), ", ")})
		}
	case before.Kind() == reflect.Map:
		if !reflect.DeepEqual(before.Interface(), after.Interface()) {
			all = append(all, Change{path, texts(before), texts(after)})
		}
	case before.Kind() == reflect.Struct:
		for _, k := range option.Keys(before.Type()) {
			f, _ := option.Field(before.Type(), k)
			all = append(all, changes(join(path, k), before.FieldByIndex(f), after.FieldByIndex(f))...)
		}
	case !before.Equal(after):
		all = append(all, Change{path, fmt.Sprint(before), fmt.Sprint(after)})
	}
	return all
}

// texts formats a map of strings in one line, sorted by key; an empty map is "".
func texts(v reflect.Value) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(v.Interface().(map[string]string))) {
		all = append(all, k+": "+v.Interface().(map[string]string)[k])
	}
	return strings.Join(all, ", ")
}

// Line returns the line of a setting in the file, or of the section that should have it;
// 0 if the file has neither. Any goroutine.
func (c *Config) Line(path string) int {
	for path != "" {
		if n := c.lines[path]; n > 0 {
			return n
		}
		path = path[:max(strings.LastIndex(path, "."), 0)]
	}
	return 0
}

// lines returns the lines of the keys outside of lists.
func (l *loader) lines() map[string]int {
	lines := map[string]int{}
	for path, n := range l.nodes {
		if !strings.Contains(path, "[") {
			lines[path] = n.Line
		}
	}
	return lines
}
