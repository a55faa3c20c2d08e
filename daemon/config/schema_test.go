package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fieldpost/daemon/goldentest"
	"fieldpost/sensors"
	"fieldpost/sensors/filter"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// The schema is made from the code.
func TestDocsSchema(t *testing.T) {
	made := lines(t, makeSchema(t), "definitions", "properties")
	goldentest.File(t, "schema.json", made)
}

// lines writes an object as JSON, one line for each key, and of some keys for each of theirs:
// short enough to be built in, and with lines to compare.
func lines(t testing.TB, o object, long ...string) []byte {
	var b bytes.Buffer
	encode := func(v any) {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		b.Truncate(b.Len() - 1) // the end of the line
	}
	b.WriteString("{")
	for i, k := range slices.Sorted(maps.Keys(o)) {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n")
		encode(k)
		b.WriteString(": ")
		if of, ok := o[k].(object); ok && slices.Contains(long, k) {
			b.Write(bytes.TrimSuffix(lines(t, of), []byte("\n")))
			continue
		}
		encode(o[k])
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}

func makeSchema(t testing.TB) object {
	d := newDescriber(t)
	definitions := object{}
	file := d.file()
	schema := sectionSchema(file, definitions)
	for _, k := range file.keys {
		if k.name == "sensors" {
			schema["properties"].(object)["sensors"] = d.sensorsSchema(k, definitions)
		}
	}
	maps.Copy(schema, object{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": "fieldpost.yaml",
		"description": "The configuration of fieldpost. `fieldpost check` knows more: it also checks what keys say together, the files and the hardware.",
		"definitions": definitions,
	})
	return schema
}

// sectionSchema is the schema of a section. One that has nothing to say may be empty.
func sectionSchema(s *refSection, definitions object) object {
	properties, required := object{}, []any{}
	for _, k := range s.keys {
		properties[k.name] = keySchema(k, definitions)
		if k.required || k.item != nil && !k.list && hasRequired(k.item) {
			required = append(required, k.name)
		}
	}
	schema := object{"type": "object", "properties": properties, "additionalProperties": false}
	if s.path == "outputs[]" {
		schema["anyOf"] = []any{object{"required": []any{"pin"}}, object{"required": []any{"pwm"}}}
	}
	if len(required) > 0 {
		schema["required"] = required
	} else if !strings.HasSuffix(s.path, "[]") {
		schema["type"] = []any{"object", "null"}
	}
	return schema
}

func hasRequired(s *refSection) bool {
	return s.path != "broker.provisioning" && slices.ContainsFunc(s.keys, func(k refKey) bool { return k.required })
}

func keySchema(k refKey, definitions object) object {
	schema := maps.Clone(k.schema)
	switch {
	case k.item != nil && k.rule.Item != nil:
		schema = object{"type": "array", "items": sectionSchema(k.item, definitions), "minItems": 1, "maxItems": k.rule.Most}
	case k.item != nil && k.item.path == "sensors[].filters[]":
		schema = object{"$ref": "#/definitions/filters"}
		definitions["filters"] = object{"type": []any{"array", "null"}, "items": filterSchema(k.item, definitions), "maxItems": maxItems, "description": described(k)}
		return schema
	case k.item != nil && k.list:
		schema = object{"type": []any{"array", "null"}, "items": sectionSchema(k.item, definitions), "maxItems": maxItems}
	case k.item != nil:
		schema = sectionSchema(k.item, definitions)
	}
	schema["description"] = described(k)
	if k.def != "" && k.item == nil && !k.list {
		schema["default"] = k.def
	}
	return schema
}

// described is what an editor shows for a key.
func described(k refKey) string {
	text := strings.ReplaceAll(k.doc, "`", "")
	if k.values != "" && !k.list && k.schema["enum"] == nil && k.values != "text" {
		text += "\nValues: " + strings.ReplaceAll(k.values, "`", "") + "."
	}
	if k.def != "" {
		text += "\nDefault: " + k.def + "."
	}
	return text
}

// choose is a schema by the word of a key: each word has its own keys.
func choose(key string, words []string, of func(word string) object) object {
	var cases []any
	for _, w := range words {
		cases = append(cases, object{"if": object{"properties": object{key: object{"const": w}}, "required": []any{key}}, "then": of(w)})
	}
	return object{"type": "object", "required": []any{key}, "properties": object{key: object{"enum": words}}, "allOf": cases}
}

// sensorsSchema is the schema of the sensors: the chip says which keys an entry has.
func (d *describer) sensorsSchema(k refKey, definitions object) object {
	common := sectionSchema(k.item, definitions)
	shared := object{}
	for name, property := range common["properties"].(object) {
		definitions["sensor-"+name] = property
		shared[name] = object{"$ref": "#/definitions/sensor-" + name}
	}
	var names []string
	for _, c := range sensors.Catalog() {
		names = append(names, c.Name)
	}
	entry := choose("chip", names, func(name string) object {
		c, _ := sensors.Lookup(name)
		properties, required := maps.Clone(shared), slices.Clone(common["required"].([]any))
		properties["chip"] = object{"const": name, "description": strings.ToUpper(c.Title[:1]) + c.Title[1:] + "."}
		for _, own := range d.chipKeys(c) {
			s := keySchema(own, definitions)
			if own.name == "address" && c.Addresses != nil {
				s = object{"description": s["description"], "default": s["default"], "anyOf": []any{object{"enum": c.Addresses}, object{"type": "string", "pattern": wholePattern}}}
			}
			properties[own.name] = hoist(own.name, s, definitions)
			if own.required {
				required = append(required, own.name)
			}
		}
		return object{"properties": properties, "required": required, "additionalProperties": false}
	})
	entry["properties"].(object)["chip"].(object)["description"] = described(refKey{doc: "The chip's name; it decides which other keys there are."})
	entry["required"] = common["required"]
	return object{"type": []any{"array", "null"}, "items": entry, "maxItems": maxItems, "description": described(k)}
}

// hoist puts a schema among the definitions, once, since many chips have the same keys.
func hoist(name string, schema object, definitions object) object {
	for n := 0; ; n++ {
		at := fmt.Sprintf("key-%s", name)
		if n > 0 {
			at = fmt.Sprintf("key-%s-%d", name, n+1)
		}
		if have, ok := definitions[at]; ok && !reflect.DeepEqual(have, schema) {
			continue
		}
		definitions[at] = schema
		return object{"$ref": "#/definitions/" + at}
	}
}

// filterSchema is the schema of one filter: its kind says which keys it has.
func filterSchema(s *refSection, definitions object) object {
	all := sectionSchema(s, definitions)["properties"].(object)
	return choose("filter", filter.Names(), func(name string) object {
		needs, takes := filter.Keys(name)
		properties, required := object{"filter": object{"const": name}, "quantity": all["quantity"]}, []any{}
		for _, k := range slices.Concat(needs, takes) {
			properties[k] = all[k]
		}
		for _, k := range needs {
			required = append(required, k)
		}
		schema := object{"properties": properties, "additionalProperties": false}
		if len(required) > 0 {
			schema["required"] = required
		}
		return schema
	})
}

// compiled compiles the schema as it is built in.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("fieldpost.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("fieldpost.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// errNotJSON is the reason when a text is not to be held against a schema: it has what JSON does
// not, such as a number as a key.
var errNotJSON = errors.New("is no JSON")

// validate holds a text against the schema, as an editor does.
func validate(s *jsonschema.Schema, text []byte) error {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return errNotJSON
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

var archived = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// examples are all configurations of the repository, by the place where they stand: the files
// in configs/, the YAML blocks of documents, and the files in scripts of tests.
func examples(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	read := func(pattern string, each func(name string, text []byte)) {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			each(f, text)
		}
	}
	read("../../configs/*.yaml", func(name string, text []byte) { all[name] = text })
	blocks := func(name string, text []byte) {
		for _, at := range yamlBlock.FindAllSubmatchIndex(text, -1) {
			all[fmt.Sprintf("%s:%d", name, 1+bytes.Count(text[:at[2]], []byte("\n")))] = text[at[2]:at[3]]
		}
	}
	read("../../*/README.md", blocks)
	read("../../README.md", blocks)
	read("../../cmd/fieldpost/testdata/*.txtar", func(name string, text []byte) {
		at := archived.FindAllSubmatchIndex(text, -1)
		for i, m := range at {
			end := len(text)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			if file := string(text[m[2]:m[3]]); strings.HasSuffix(file, ".yaml") {
				all[name+":"+file] = text[m[1]:end]
			}
		}
	})
	return all
}

// The schema accepts every configuration of the repository that the loader accepts.
func TestSchemaAcceptsTheExamples(t *testing.T) {
	withSerial(t, "10000000abcdef01")
	s, valid := compiled(t), 0
	for name, text := range examples(t) {
		if _, err := parse(place(t), text, false); err != nil {
			continue // what a script expects to be refused, or a file for something else
		}
		valid++
		if err := validate(s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if valid < 25 {
		t.Errorf("%d configurations only", valid)
	}
}

// ofShape are reasons of the loader that are about the shape of a file: which keys there are and
// of what kind their values are.
var ofShape = regexp.MustCompile(`(?m): unknown key |: is missing(; chip \S+ needs it)?$|want keys with values, not|want a list, each|want a plain word|unknown chip|unknown filter|` +
	`chip \S+ does not have this key|want [a-z, -]+ or [a-z-]+ \(got|want a whole number|want (on or off|a number|a duration)|has no value|write a unit|no unit for days|, not (a list|keys with values|nothing|a single value)$`)

// What a schema cannot say, or what is refused because of something else in the file.
var besides = regexp.MustCompile(`such as 40/s|fraction|needs it$|host's name|file|topic|octal|leading zero`)

// Of the texts that the loader refuses, the schema refuses all that have a wrong shape. It
// cannot refuse the others, such as two sensors with one name.
func TestSchemaRefusesWrongShapes(t *testing.T) {
	s, shapes, refused := compiled(t), 0, 0
	for _, r := range refusals {
		err := validate(s, []byte(base+r.text))
		if err != nil {
			refused++
		}
		if !ofShape.MatchString(r.want) || besides.MatchString(r.want) {
			continue
		}
		if shapes++; err == nil {
			t.Errorf("%s: accepted though it is refused with\n%s\n%s", r.name, r.want, r.text)
		}
	}
	t.Logf("%d refusals, %d of shape, %d refused by the schema", len(refusals), shapes, refused)
	if shapes < 40 || refused < shapes {
		t.Errorf("%d of %d refusals are of shape", shapes, len(refusals))
	}
}
