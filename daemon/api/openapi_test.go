package api_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/goldentest"
)

type object = map[string]any

// The document is what this package says: each route, each status, each key of
// each type, with the comment that stands beside it.
func TestDocsOpenAPI(t *testing.T) {
	d := newDocument(t)
	paths := object{}
	for _, r := range api.Routes {
		path, ok := paths[r.Path].(object)
		if !ok {
			path = object{}
			paths[r.Path] = path
		}
		path[strings.ToLower(r.Method)] = d.operation(r)
	}
	want, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "fieldpost", "version": "1",
			"description": "What a running fieldpost can be asked on its unix socket. Keys may be added to what a path takes and gives; another meaning gets another version in the path. Times are RFC 3339 in UTC, to the millisecond; a key that ends in _s is in seconds. A path or method that is not here is answered with 404 or 405.",
		},
		"servers":    []any{object{"url": "http://localhost", "description": "curl --unix-socket /run/fieldpost/fieldpost.sock http://localhost/v1/status"}},
		"paths":      paths,
		"components": object{"schemas": d.schemas},
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	goldentest.File(t, "openapi.json", append(want, '\n'))
}

// document is what has been described so far.
type document struct {
	t        *testing.T
	comments map[string]string // by type, and by type and field
	schemas  object
}

func newDocument(t *testing.T) *document {
	return &document{t: t, comments: goldentest.Comments(t, "."), schemas: object{}}
}

func (d *document) operation(r api.Route) object {
	responses := object{}
	for _, status := range r.Answers() {
		answer := object{"description": meaning(status), "content": d.content("", api.ErrorAnswer{}, false)}
		if status == http.StatusOK {
			answer["description"] = "Done."
			answer["content"] = d.content(r.Media, r.Response, false)
		}
		responses[strconv.Itoa(status)] = answer
	}
	op := object{"operationId": r.Name, "summary": r.Does, "responses": responses}
	if r.Query != nil {
		op["parameters"] = d.parameters(reflect.TypeOf(r.Query))
	}
	if r.Request != nil {
		op["requestBody"] = object{"required": !r.Optional, "content": d.content("", r.Request, true)}
	}
	return op
}

// parameters describes the keys of a query, which are strings.
func (d *document) parameters(t reflect.Type) (all []any) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() != reflect.String || d.comments[t.Name()+"."+f.Name] == "" {
			d.t.Errorf("%v.%s is no string with a comment", t, f.Name)
		}
		all = append(all, object{"name": name, "in": "query", "description": d.comments[t.Name()+"."+f.Name], "schema": object{"type": "string"}})
	}
	return all
}

// meaning lists the codes of errors that have a status.
func meaning(status int) string {
	var codes []string
	for _, code := range []string{
		api.Malformed, api.TimedOut, api.UnknownPath, api.UnknownSensor, api.NoHistory, api.BadConfiguration, api.WrongMethod, api.NotOurs, api.TooLarge, api.WrongType, api.Internal, api.Busy, api.Stopping,
	} {
		if api.HTTPStatus(code) == status && code != api.UnknownPath {
			codes = append(codes, code)
		}
	}
	if codes == nil {
		return "The sensor does not give a reading; the code is that of its fault, as in deploy/README.md."
	}
	return fmt.Sprintf("Error with code %s.", strings.Join(codes, " or "))
}

func (d *document) content(media string, v any, strict bool) object {
	schema := object{"type": "object"}
	if v != nil {
		schema = d.schema(reflect.TypeOf(v), strict)
	}
	return object{cmp.Or(media, "application/json"): object{"schema": schema}}
}

// schema describes a type. Of what the daemon takes, strict, no other keys are
// allowed.
func (d *document) schema(t reflect.Type, strict bool) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[api.Column]():
		return object{"type": "array", "items": object{"type": []any{"number", "null"}}}
	case t == reflect.TypeFor[api.Values]():
		d.schemas[t.Name()] = object{"type": "object", "description": d.comments[t.Name()], "additionalProperties": object{"type": []any{"number", "boolean", "string"}}}
		return object{"$ref": "#/components/schemas/" + t.Name()}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem(), strict)
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem(), strict)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem(), strict)}
	case reflect.Struct:
		if _, known := d.schemas[t.Name()]; !known {
			d.schemas[t.Name()] = d.structure(t, strict)
		}
		return object{"$ref": "#/components/schemas/" + t.Name()}
	}
	d.t.Fatalf("a key of type %v has no form in the document", t)
	return nil
}

func (d *document) structure(t reflect.Type, strict bool) object {
	properties, required := object{}, []string{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			d.t.Errorf("%v.%s has no key", t, f.Name)
		}
		comment := d.comments[t.Name()+"."+f.Name]
		property := d.schema(f.Type, strict)
		if comment != "" {
			property = maps.Clone(property)
			property["description"] = comment
		}
		properties[name] = property
		if options == "" {
			required = append(required, name)
		}
	}
	s := object{"type": "object", "properties": properties}
	if comment := d.comments[t.Name()]; comment == "" {
		d.t.Errorf("%v has no comment", t)
	} else {
		s["description"] = comment
	}
	if len(required) > 0 {
		s["required"] = required
	}
	if strict {
		s["additionalProperties"] = false
	}
	return s
}

// Each code has a status, and each status is of a route or of a path or method
// that is none.
func TestStatusesOfRoutes(t *testing.T) {
	for _, r := range api.Routes {
		all := r.Answers()
		slices.Sort(all)
		if len(slices.Compact(all)) != len(r.Answers()) {
			t.Errorf("%s has a status twice: %v", r.Name, all)
		}
	}
	if got := api.HTTPStatus("no_answer"); got != http.StatusBadGateway {
		t.Errorf("a sensor's fault gives %d", got)
	}
}
