package config

import (
	"fmt"
	"reflect"
	"strings"

	"fieldpost/sensors/option"

	"gopkg.in/yaml.v3"
)

// A value has two names: its path in this file, such as "sensors[2].address", and its key,
// which is the same in every file, such as "sensors[].address". The key selects the rule.

// value reads n into v.
func (l *loader) value(n *yaml.Node, path, key string, v reflect.Value) {
	l.nodes[path] = n
	switch {
	case n.Kind == yaml.AliasNode: // plain has refused it
	case v.Kind() == reflect.Struct:
		l.mapping(n, path, key, v)
	case v.Kind() == reflect.Slice:
		l.list(n, path, key, v)
	case v.Kind() == reflect.Map:
		l.texts(n, path, v)
	default:
		l.scalar(n, path, key, v)
	}
}

// mapping reads keys and values into a struct. A section without keys is valid and has the
// defaults; its lines may all be commented out.
func (l *loader) mapping(n *yaml.Node, path, key string, v reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		l.fail(path, "want keys with values, not "+kindOf(n), "")
		return
	}
	own := l.chipKeysOf(n, path, v)
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode:
			l.add(k.Line, path, "want a plain word as a key", "")
			continue
		case isMerge(k): // plain has refused it
			continue
		case lines[k.Value] > 0:
			l.add(k.Line, path, fmt.Sprintf("duplicate key %q, first on line %d", printable(k.Value), lines[k.Value]), "")
			continue
		}
		lines[k.Value] = k.Line
		f, ok := option.Field(v.Type(), k.Value)
		switch {
		case ok:
			l.value(val, join(path, k.Value), join(key, k.Value), v.FieldByIndex(f))
		case !own.read(l, val, join(path, k.Value), k.Value):
			l.add(k.Line, path, unknown("key", k.Value, append(option.Keys(v.Type()), own.keys()...)), "")
		}
	}
	own.finish()
}

// texts reads a map from the user's own keys to strings.
func (l *loader) texts(n *yaml.Node, path string, v reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		l.fail(path, "want keys with values, not "+kindOf(n), "")
		return
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Value == "" {
			l.add(k.Line, path, "want a plain word as a key", "")
			continue
		}
		if _, twice := out[k.Value]; twice {
			l.add(k.Line, path, fmt.Sprintf("duplicate key %q", printable(k.Value)), "")
			continue
		}
		at := join(path, k.Value)
		l.nodes[at] = val
		text := reflect.New(reflect.TypeFor[string]()).Elem()
		l.scalarBy(rule{}, val, at, text)
		out[k.Value] = text.String()
	}
	v.Set(reflect.ValueOf(out))
}

// list reads a sequence into a slice.
func (l *loader) list(n *yaml.Node, path, key string, v reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		l.fail(path, "want a list, each entry after \"- \", not "+kindOf(n), "")
		return
	}
	if len(n.Content) > maxItems {
		l.fail(path, fmt.Sprintf("want at most %d entries, not %d", maxItems, len(n.Content)), "")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		if start, ok := items[v.Type().Elem()]; ok {
			out.Index(i).Set(start)
		}
		l.value(item, fmt.Sprintf("%s[%d]", path, i), key+"[]", out.Index(i))
	}
	v.Set(out)
}

// maxItems bounds a list. No board has so many sensors or outputs.
const maxItems = 256

// complete reports every required key that is missing.
func (l *loader) complete(c *Config) { l.missing("", "", reflect.ValueOf(c).Elem()) }

// missing reports the required keys that are missing in v and below.
func (l *loader) missing(path, key string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			l.missing(fmt.Sprintf("%s[%d]", path, i), key+"[]", v.Index(i))
		}
	case reflect.Struct:
		if n := l.nodes[path]; n != nil && n.Kind != yaml.MappingNode && !isNull(n) {
			return // it was refused as a whole
		}
		for _, k := range option.Keys(v.Type()) {
			f, _ := option.Field(v.Type(), k)
			l.missing(join(path, k), join(key, k), v.FieldByIndex(f))
		}
	default:
		if rules[key].Required && l.nodes[path] == nil {
			l.fail(path, "is missing", "")
		}
	}
}

// given reports whether the file has a value at a path.
func (l *loader) given(path string) bool { return l.nodes[path] != nil }

// line returns the line of a path, or of the nearest enclosing value.
func (l *loader) line(path string) int {
	for path != "" {
		if n := l.nodes[path]; n != nil {
			return max(n.Line, 1)
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	if n := l.nodes[""]; n != nil {
		return max(n.Line, 1)
	}
	return 1
}

// fail reports a problem of a path.
func (l *loader) fail(path, reason, value string) {
	l.add(l.line(path), path, reason, value)
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// kindOf names the kind of a value for an error message.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return "a single value"
}
