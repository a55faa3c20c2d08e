// Package option describes the keys that an entry of the configuration takes:
// a struct with their defaults, and the rules beside it. Whoever owns the
// struct owns its rules too: a chip those of its own keys. Package
// fieldpost/daemon/config fills the struct from the file, holds what is given
// against the rules, and names file, line and path of what breaks one.
package option

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// Rule is what is asked of a key beyond the type of its field. The zero Rule
// takes whatever the type can hold.
type Rule struct {
	Required bool                           // the key must be given
	Wants    string                         // what it wants, where the type's word is too wide: "a line such as GPIO17"
	Parse    func(text string) (any, error) // reads the value; nil reads by the field's type
	Check    func(v any) (reason string)    // "" where v is possible; nil accepts all
	File     bool                           // names a file that must exist; its path becomes absolute
	Dir      bool                           // names a directory that fieldpost makes; likewise
	// Meant says what was probably meant by a value that Check has refused, to
	// stand behind the reason; "" where that is not known. Nil: never known.
	Meant func(v any, text string) string
	// Loose is Check where nothing is known of the chip but that it takes the
	// key; nil: Check is good for all.
	Loose func(v any) (reason string)
}

// Set is what an entry takes.
type Set struct {
	// Defaults is a struct, not a pointer to one, whose fields have the tag
	// yaml with their key, in the order in which they are listed for people. It
	// holds what the configuration says where the file says nothing. Fields of
	// an embedded struct are as good as its own. It must be comparable.
	Defaults any
	// Rules are the rules of its keys.
	Rules map[string]Rule
}

// Keys returns the keys, in the order of the fields.
func (s Set) Keys() []string {
	if s.Defaults == nil {
		return nil
	}
	return Keys(reflect.TypeOf(s.Defaults))
}

// Has reports whether it takes the key.
func (s Set) Has(key string) bool { return slices.Contains(s.Keys(), key) }

// New returns a settable copy of the defaults.
func (s Set) New() reflect.Value {
	v := reflect.New(reflect.TypeOf(s.Defaults)).Elem()
	v.Set(reflect.ValueOf(s.Defaults))
	return v
}

// known are the fields of the structs that were asked for, by their type: there
// are few, and a configuration of many sensors asks thousands of times.
var known sync.Map

func fieldsOf(t reflect.Type) []reflect.StructField {
	if all, ok := known.Load(t); ok {
		return all.([]reflect.StructField)
	}
	all := reflect.VisibleFields(t)
	known.Store(t, all)
	return all
}

// Keys returns the keys of a struct, in the order of its fields.
func Keys(t reflect.Type) (keys []string) {
	for _, f := range fieldsOf(t) {
		if k := f.Tag.Get("yaml"); k != "" && k != "-" {
			keys = append(keys, k)
		}
	}
	return keys
}

// Field returns the index of the field with that key, for
// [reflect.Value.FieldByIndex].
func Field(t reflect.Type, key string) (index []int, ok bool) {
	for _, f := range fieldsOf(t) {
		if k := f.Tag.Get("yaml"); k == key && k != "" && k != "-" {
			return f.Index, true
		}
	}
	return nil, false
}

// Between is a [Rule].Check that accepts what is neither less than lo nor more
// than hi.
func Between[T cmp.Ordered](lo, hi T, show func(T) string) func(any) string {
	return func(v any) string {
		if x := v.(T); x < lo || x > hi {
			return fmt.Sprintf("want %s to %s", show(lo), show(hi))
		}
		return ""
	}
}

// OneOf is a [Rule].Check that accepts these words.
func OneOf(words ...string) func(any) string {
	return func(v any) string {
		if !slices.Contains(words, v.(string)) {
			most, last := words[:len(words)-1], words[len(words)-1]
			return "want " + strings.Join(most, ", ") + " or " + last
		}
		return ""
	}
}

// Duration writes a duration without the zeros that Go appends: 20m, 720h.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
