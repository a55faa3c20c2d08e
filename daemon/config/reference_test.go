package config

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/goldentest"
	"fieldpost/sensors"
	"fieldpost/sensors/filter"
	"fieldpost/sensors/option"
)

// refKey is a key of the configuration as the schema and the reference have it. All of it is
// made from the code: the type and the default of the field, its comment, and its rule.
type refKey struct {
	name     string
	doc      string       // what it is, in sentences
	required bool         // it must be given
	def      string       // the default as it is written in the file; "" if there is none to show
	typ      reflect.Type // of the field
	rule     rule
	item     *refSection // of a list of sections, or of a section
	list     bool        // the value is a list
	values   string      // what its values are, for people
	schema   object
}

// refSection is a section: keys with values.
type refSection struct {
	path string // "broker.provisioning", "sensors[]"; "" is the file
	doc  string
	keys []refKey
}

type object = map[string]any

// describer makes sections.
type describer struct {
	t        testing.TB
	comments map[string]map[string]string // by the path of a package, by type and field
}

func newDescriber(t testing.TB) *describer {
	return &describer{t: t, comments: map[string]map[string]string{
		"fieldpost/daemon/config": goldentest.Comments(t, "."),
		"fieldpost/daemon/output": goldentest.Comments(t, "../output"),
		"fieldpost/sensors":       goldentest.Comments(t, "../../sensors"),
	}}
}

// file describes the whole configuration but the chips.
func (d *describer) file() *refSection {
	return d.section("", "", reflect.ValueOf(defaults), func(key string) rule { return rules[key] })
}

// section describes a struct. ruleOf gives the rule of a key below it.
func (d *describer) section(path, doc string, v reflect.Value, ruleOf func(key string) rule) *refSection {
	s := &refSection{path: path, doc: doc}
	for _, name := range option.Keys(v.Type()) {
		s.keys = append(s.keys, d.key(path, name, v, ruleOf))
	}
	return s
}

func (d *describer) key(path, name string, v reflect.Value, ruleOf func(key string) rule) refKey {
	index, _ := option.Field(v.Type(), name)
	f, at := v.FieldByIndex(index), join(path, name)
	k := refKey{name: name, typ: f.Type(), rule: ruleOf(at), doc: d.doc(v.Type(), index)}
	k.required = k.rule.Required
	switch {
	case k.rule.Item != nil:
		k.list = true
		k.item = d.section(at+"[]", "", reflect.ValueOf(k.rule.Item), func(key string) rule {
			return rule(k.rule.Items[strings.TrimPrefix(key, at+"[].")])
		})
	case f.Kind() == reflect.Struct:
		k.item = d.section(at, k.doc, f, ruleOf)
	case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
		k.list = true
		start, ok := items[f.Type().Elem()]
		if !ok {
			start = reflect.Zero(f.Type().Elem())
		}
		k.item = d.section(at+"[]", k.doc, start, ruleOf)
	case f.Kind() == reflect.Slice:
		k.list, k.rule = true, ruleOf(at+"[]")
	}
	if k.item == nil {
		if k.def = readable(k.rule, f, defaultText(k.rule, f)); strings.Contains(k.doc, "The default is that of") {
			k.def = ""
		}
		k.describeValue()
	}
	if at == "sensors[].filters[].filter" {
		k.values = "`" + strings.Join(filter.Names(), "`, `") + "`"
	}
	return k
}

// doc returns the first paragraph of a field's comment, without the field's name, and with keys
// instead of other fields' names.
func (d *describer) doc(t reflect.Type, index []int) string {
	for _, i := range index[:len(index)-1] {
		t = t.Field(i).Type
	}
	f := t.Field(index[len(index)-1])
	comments, ok := d.comments[t.PkgPath()]
	if !ok {
		d.t.Fatalf("the comments of %s are not read", t.PkgPath())
	}
	text, _, _ := strings.Cut(comments[t.Name()+"."+f.Name], "\n")
	text = regexp.MustCompile(`[^.]*\[[A-Z][A-Za-z.]+\][^.]*\.`).ReplaceAllString(text, "") // names of the code
	text, found := strings.CutPrefix(strings.TrimSpace(text), f.Name+" ")
	if !found || text == "" {
		d.t.Errorf("%s.%s has no comment that begins with its name: %q", t, f.Name, comments[t.Name()+"."+f.Name])
	}
	for _, be := range []string{"is ", "are "} {
		text = strings.TrimPrefix(text, be)
	}
	for i := range t.NumField() {
		other := t.Field(i)
		if key := other.Tag.Get("yaml"); key != "" && key != "-" && other.Name != strings.ToUpper(other.Name) {
			text = regexp.MustCompile(`([a-z,;:] )`+other.Name+`\b`).ReplaceAllString(text, "${1}`"+key+"`")
		}
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// defaultText writes a default as it would stand in the file. The zero of a type that has no
// other meaning is none.
func defaultText(r rule, v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		if x == 0 {
			return ""
		}
		return option.Duration(x)
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	case fmt.Stringer:
		if v.IsZero() && v.Kind() != reflect.Uint8 {
			return ""
		}
		return x.String()
	case bool:
		if x {
			return "on"
		}
		return "off"
	case float64:
		if x == 0 || math.IsInf(x, 0) {
			return ""
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	case []string:
		return strings.Join(x, ", ")
	}
	if v.IsZero() || v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return ""
	}
	if v.Kind() == reflect.Int64 && r.Parse != nil {
		return size(v.Int())
	}
	if v.Kind() == reflect.Uint16 {
		return fmt.Sprintf("0x%02x", v.Uint())
	}
	return fmt.Sprint(v.Interface())
}

// readable returns a default as the loader reads it back; "" if the text is not one.
func readable(r rule, v reflect.Value, text string) string {
	if text == "" || v.Kind() == reflect.Slice {
		return text
	}
	for _, as := range []string{text, text + "/s"} {
		back := reflect.New(v.Type()).Elem()
		if r.read(as, back) == nil && back.Equal(v) {
			return as
		}
	}
	return ""
}

// The texts that values have.
const (
	durationPattern = `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$|^-([0.]+(ns|us|µs|μs|ms|s|m|h))+$`
	sizePattern     = `^\s*[0-9]+\s*(KiB|MiB|GiB)$|^[0-9]+$`
	wholePattern    = `^(0[xX][0-9A-Fa-f]+|[0-9]+)$`
	numberPattern   = `^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?0[xX][0-9A-Fa-f_.]+[pP][+-]?[0-9]+$`
)

// describeValue fills in what the values of a key are, for people and as a schema.
func (k *refKey) describeValue() {
	elem := k.typ
	if k.list {
		elem = elem.Elem()
	}
	k.values, k.schema = describeType(elem, k.rule)
	if k.list {
		k.schema = object{"type": []any{"array", "null"}, "items": k.schema, "maxItems": maxItems}
		k.values = "a list, each " + k.values
		if k.schema["items"].(object)["enum"] != nil {
			k.values = strings.Replace(k.values, ", each", " of", 1)
		}
	}
}

// describeType says what the values of a type and a rule are.
func describeType(t reflect.Type, r rule) (values string, schema object) {
	words := wordsOf(t, r)
	switch {
	case words != nil:
		schema = object{"enum": enumOf(words)}
		shown := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "true" || w == "false" })
		values = "`" + strings.Join(shown, "`, `") + "`"
		if t.Kind() != reflect.String && r.read("40%", reflect.New(t).Elem()) == nil { // a level, of PWM outputs
			return values + ", of a PWM output also `0%` to `100%`", object{"anyOf": []any{schema, object{"type": "string", "pattern": `^(100|[0-9]{1,2})(\.[0-9]{1,2})?%$`}}}
		}
		return values, schema
	case t.Kind() == reflect.Bool:
		return "`on`, `off`", object{"enum": []any{true, false, "on", "off", "true", "false"}}
	case t == reflect.TypeFor[time.Duration]():
		return cmp.Or(rangeText(t, r), "a time such as `10s`"), object{"type": []any{"string", "integer"}, "pattern": durationPattern, "maximum": 0, "minimum": 0}
	case r.Parse != nil && t.Kind() == reflect.Int64:
		return cmp.Or(rangeText(t, r), r.Wants), object{"type": []any{"string", "integer"}, "pattern": sizePattern, "minimum": 0}
	case r.Parse != nil || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return cmp.Or(r.Wants, "text"), object{"type": []any{"string", "number"}, "minLength": 1}
	case t.Kind() == reflect.Map:
		return "keys of your choice with texts", object{"type": []any{"object", "null"}, "additionalProperties": object{"type": []any{"string", "number", "boolean"}, "minLength": 1}}
	case t.Kind() == reflect.Slice:
		_, item := describeType(t.Elem(), rule{})
		return "a list of numbers", object{"type": "array", "items": item}
	case t.Kind() == reflect.String:
		return cmp.Or(r.Wants, "text"), object{"type": []any{"string", "number", "boolean"}, "minLength": 1}
	}
	whole := t.Kind() != reflect.Float64
	schema = object{"type": []any{"number", "string"}, "pattern": numberPattern}
	if whole {
		schema = object{"type": []any{"integer", "string"}, "pattern": wholePattern, "minimum": 0}
	}
	if lo, hi, ok := rangeOf(t, r); ok {
		schema["minimum"], schema["maximum"] = lo, hi
	}
	return cmp.Or(rangeText(t, r), r.Wants, "a number"), schema
}

// enumOf gives words as YAML reads them: true and false are no texts.
func enumOf(words []string) (all []any) {
	for _, w := range words {
		if w == "true" || w == "false" {
			all = append(all, w == "true")
		}
		all = append(all, w)
	}
	return all
}

var wantedWords = regexp.MustCompile("^want ([a-z0-9_-]+(?:, [a-z0-9_-]+)* or [a-z0-9_-]+)$")

// wordsOf returns the words that a key takes, nil if it takes others. They are those that the
// refusal of another value lists, and each is tried.
func wordsOf(t reflect.Type, r rule) (words []string) {
	read := func(text string) string {
		v := reflect.New(t).Elem()
		if err := r.read(text, v); err != nil {
			return err.Error()
		}
		if r.Check == nil {
			return ""
		}
		return r.Check(v.Interface())
	}
	if t.Kind() != reflect.String && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return nil
	}
	m := wantedWords.FindStringSubmatch(read("no such word"))
	if m == nil {
		return nil
	}
	words = strings.FieldsFunc(strings.ReplaceAll(m[1], " or ", ", "), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.ContainsFunc(words, func(w string) bool { return read(w) != "" }) {
		return nil // it lists something else, such as a name of a file
	}
	if read("true") == "" {
		words = append(words, "true", "false")
	}
	return words
}

// rangeText says between what a value may be.
func rangeText(t reflect.Type, r rule) string {
	reason, ok := strings.CutPrefix(reasonOf(t, r), "want ")
	if !ok || strings.Contains(reason, "such as") {
		return ""
	}
	return reason
}

// reasonOf returns why an impossible value of a type is refused; "" if none is.
func reasonOf(t reflect.Type, r rule) (reason string) {
	if r.Check == nil {
		return ""
	}
	worst := reflect.New(t).Elem()
	switch {
	case worst.CanInt():
		for _, x := range []int64{math.MaxInt64, -1, 1} {
			if worst.OverflowInt(x) {
				x = 1<<(t.Bits()-1) - 1
			}
			worst.SetInt(x)
			if reason = r.Check(worst.Interface()); reason != "" {
				return reason
			}
		}
	case worst.CanUint():
		worst.SetUint(math.MaxUint64 >> (64 - t.Bits()))
		reason = r.Check(worst.Interface())
	case worst.CanFloat():
		worst.SetFloat(math.MaxFloat64)
		reason = r.Check(worst.Interface())
	}
	return reason
}

var wantedRange = regexp.MustCompile(`^want (-?[0-9.]+|0x[0-9a-f]+) to (-?[0-9.]+|0x[0-9a-f]+)\b`)

// rangeOf returns the bounds of a number, which are tried.
func rangeOf(t reflect.Type, r rule) (lo, hi float64, ok bool) {
	m := wantedRange.FindStringSubmatch(reasonOf(t, r))
	if m == nil {
		return 0, 0, false
	}
	var bounds [2]float64
	for i := range bounds {
		v := reflect.New(t).Elem()
		if r.read(m[i+1], v) != nil || r.Check(v.Interface()) != "" {
			return 0, 0, false
		}
		switch {
		case v.CanFloat():
			bounds[i] = v.Float()
		case v.CanInt():
			bounds[i] = float64(v.Int())
		default:
			bounds[i] = float64(v.Uint())
		}
	}
	return bounds[0], bounds[1], bounds[0] < bounds[1]
}

// chipKeys describes the own keys of a chip.
func (d *describer) chipKeys(c sensors.Chip) []refKey {
	if c.Options.Defaults == nil {
		return nil
	}
	return d.section("", "", reflect.ValueOf(c.Options.Defaults), func(key string) rule { return rule(c.Options.Rules[key]) }).keys
}
