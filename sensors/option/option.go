// Package option describes the keys of an entry in the configuration: a struct with their
// defaults, and rules for their values. The owner of the struct owns its rules too, for example a
// chip those of its own keys. Package fieldpost/daemon/config fills the struct from the file,
// checks the values by the rules, and reports file, line and path of a value that breaks one.
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

// Rule is what a key needs beyond the type of its field. The zero Rule accepts every value of the
// type.
type Rule struct {
	Required bool                           // the key must be given
	Wants    string                         // what the value should be, if the type says too little: "a line such as GPIO17"
	Parse    func(text string) (any, error) // reads the value; nil reads by the field's type
	Check    func(v any) (reason string)    // "" if v is valid; nil accepts all
	File     bool                           // names a file that must exist; its path becomes absolute
	Dir      bool                           // names a directory that fieldpost creates; its path becomes absolute
	Secret   bool                           // may hold a password: a message does not show the value
	// Meant says what a value that Check has refused was probably meant to be, to be added to
	// the reason; "" if that is unknown. May be nil.
	Meant func(v any, text string) string
	// Item is a struct, not a pointer to one, with the defaults of an entry, if the key is a
	// list of such structs; nil: the key has one value. Then only the fields below and
	// Required count.
	Item any
	// Items are the rules of an entry's keys.
	Items map[string]Rule
	// Most is how many entries the list may have. It must have one.
	Most int
	// Entry checks entry i by all its keys and the entries before it, and returns the key
	// that is wrong; reason is "" if none is. all is the list, a slice of structs.
	Entry func(all any, i int) (key, reason string)
	// Loose replaces Check if the chip is unknown. If it is nil, Check is used for all chips.
	Loose func(v any) (reason string)
}

// Set describes the keys of an entry.
type Set struct {
	// Defaults is a struct, not a pointer to one. Its fields have their key in the tag yaml, and
	// their default as value, in the order in which they are listed for people. Fields of
	// embedded structs count too. reflect.DeepEqual must compare it by its values.
	Defaults any
	// Rules are the rules of the keys.
	Rules map[string]Rule
	// Together checks what valid keys say together. given says whether a key is in the file.
	// It returns the key that is to blame, and why; "" if all is well. May be nil.
	Together func(options any, given func(key string) bool) (key, reason string)
}

// Keys returns the keys, in the order of the fields.
func (s Set) Keys() []string {
	if s.Defaults == nil {
		return nil
	}
	return Keys(reflect.TypeOf(s.Defaults))
}

// Has reports whether the entry has the key.
func (s Set) Has(key string) bool { return slices.Contains(s.Keys(), key) }

// New returns a settable copy of the defaults.
func (s Set) New() reflect.Value {
	v := reflect.New(reflect.TypeOf(s.Defaults)).Elem()
	v.Set(reflect.ValueOf(s.Defaults))
	return v
}

// known caches the fields of structs by type: there are few types, and a configuration with many
// sensors asks for them thousands of times.
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

// Between returns a [Rule].Check that accepts values from lo to hi.
func Between[T cmp.Ordered](lo, hi T, show func(T) string) func(any) string {
	return func(v any) string {
		if x := v.(T); x < lo || x > hi {
			return fmt.Sprintf("want %s to %s", show(lo), show(hi))
		}
		return ""
	}
}

// OneOf returns a [Rule].Check that accepts these words.
func OneOf(words ...string) func(any) string {
	return func(v any) string {
		if !slices.Contains(words, v.(string)) {
			most, last := words[:len(words)-1], words[len(words)-1]
			return "want " + strings.Join(most, ", ") + " or " + last
		}
		return ""
	}
}

// Duration formats a duration without the zeros that Go appends: 20m, 720h.
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

// IsNumber reports whether s is one or more decimal digits.
func IsNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
