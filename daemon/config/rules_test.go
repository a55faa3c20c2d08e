package config

import (
	"reflect"
	"testing"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/option"
)

// kinds returns the type of every key, by walking the types.
func kinds(t reflect.Type, key string, into map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Slice:
		kinds(t.Elem(), key+"[]", into)
	case reflect.Map:
		kinds(t.Elem(), key+".*", into)
	case reflect.Struct:
		for _, k := range option.Keys(t) {
			f, _ := option.Field(t, k)
			kinds(t.FieldByIndex(f).Type, join(key, k), into)
		}
	default:
		into[key] = t
	}
}

// A rule for a key that does not exist would never be asked, and one for
// another type would panic.
func TestRulesFitTheTypes(t *testing.T) {
	all := map[string]reflect.Type{}
	kinds(reflect.TypeFor[Config](), "", all)
	for key, r := range rules {
		typ, ok := all[key]
		if !ok {
			t.Errorf("rule for %q: there is no such key", key)
			continue
		}
		if (r.File || r.Dir) && typ.Kind() != reflect.String {
			t.Errorf("rule for %q names a file, but it is a %s", key, typ)
		}
		if r.Check != nil {
			r.Check(reflect.Zero(typ).Interface())
		}
	}
}

// Every type of key can be read from a text.
func TestEveryTypeCanBeRead(t *testing.T) {
	samples := []string{"x", "1", "on", "1s", "up", "push-pull", "1MiB", "40/s", "25kHz"}
	all := map[string]reflect.Type{}
	kinds(reflect.TypeFor[Config](), "", all)
	for key, typ := range all {
		read := false
		for _, s := range samples {
			read = read || rules[key].read(s, reflect.New(typ).Elem()) == nil
		}
		if !read {
			t.Errorf("%s: no text can be read as %s", key, typ)
		}
	}
}

// So can that of every key of a chip's own.
func TestEveryOptionCanBeRead(t *testing.T) {
	samples := []string{"x", "1", "on", "1s", "up", "40/s", "0x76", "1.5", "even"}
	check := func(chip, key string, r option.Rule, v reflect.Value) {
		for _, s := range samples {
			if rule(r).read(s, v) == nil {
				return
			}
		}
		t.Errorf("chip %s: no text can be read as %s", chip, key)
	}
	for _, c := range sensors.Catalog() {
		for _, k := range c.Options.Keys() {
			f, _ := option.Field(c.Options.New().Type(), k)
			r := c.Options.Rules[k]
			if r.Item == nil {
				check(c.Name, k, r, c.Options.New().FieldByIndex(f))
				continue
			}
			for _, sub := range option.Keys(reflect.TypeOf(r.Item)) {
				entry := reflect.New(reflect.TypeOf(r.Item)).Elem()
				f, _ := option.Field(entry.Type(), sub)
				check(c.Name, k+"[]."+sub, r.Items[sub], entry.FieldByIndex(f))
			}
		}
	}
}

// The defaults keep the rules that a user's values must keep.
func TestDefaultsKeepTheRules(t *testing.T) {
	var walk func(key string, v reflect.Value)
	walk = func(key string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for _, k := range option.Keys(v.Type()) {
				f, _ := option.Field(v.Type(), k)
				walk(join(key, k), v.FieldByIndex(f))
			}
			return
		}
		if r := rules[key]; r.Check != nil && !v.IsZero() {
			if reason := r.Check(v.Interface()); reason != "" {
				t.Errorf("default of %s: %s", key, reason)
			}
		}
	}
	walk("", reflect.ValueOf(defaults))
	walk("outputs[]", reflect.ValueOf(outputDefaults))
}

func TestReadOfNumbers(t *testing.T) {
	var f float64
	for in, want := range map[string]float64{"1.5": 1.5, "-3": -3, "1e3": 1000} {
		if err := (rule{}).read(in, reflect.ValueOf(&f).Elem()); err != nil || f != want {
			t.Errorf("%q is %v, %v, want %v", in, f, err, want)
		}
	}
	for _, in := range []string{"NaN", ".inf", "inf", "x", ""} {
		if err := (rule{}).read(in, reflect.ValueOf(&f).Elem()); err == nil {
			t.Errorf("%q was accepted as %v", in, f)
		}
	}
	var i int8
	if err := (rule{}).read("127", reflect.ValueOf(&i).Elem()); err != nil || i != 127 {
		t.Errorf("127 is %d, %v", i, err)
	}
	if err := (rule{}).read("128", reflect.ValueOf(&i).Elem()); err == nil {
		t.Errorf("128 was accepted as %d", i)
	}
	if err := (rule{}).read("x", reflect.New(reflect.TypeFor[chan int]()).Elem()); err == nil {
		t.Error("a channel was read")
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]int64{"1": 1, "0": 0, "2KiB": 2048, "64MiB": 64 << 20, "1 GiB": 1 << 30, "8589934591GiB": 8589934591 << 30} {
		if got, err := bytesOf(in); err != nil || got != want {
			t.Errorf("%q is %v, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "1.5MiB", "64M", "64mib", "064", "8589934592GiB", "99999999999999999999"} {
		if got, err := bytesOf(in); err == nil {
			t.Errorf("%q was accepted as %v", in, got)
		}
	}
	for in, want := range map[int64]string{64 << 20: "64MiB", 1536: "1536", 0: "0", 3 << 10: "3KiB"} {
		if got := size(in); got != want {
			t.Errorf("%d is written %q, want %q", in, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0: "0s", 10 * time.Second: "10s", 100 * time.Millisecond: "100ms", 20 * time.Minute: "20m",
		90 * time.Second: "1m30s", 720 * time.Hour: "720h", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s",
	} {
		if got := option.Duration(in); got != want {
			t.Errorf("%v is written %q, want %q", in, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"name", "chip", "every", "bus", "address", "active_low"}
	for in, want := range map[string]string{
		"adress": "address", "Address": "address", "active-low": "active_low", "activelow": "active_low",
		"nam": "name", "bsu": "", "intervall": "", "chips": "chip", "": "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("nearest of %q is %q, want %q", in, got, want)
		}
	}
	if got := distance("kitten", "sitting"); got != 3 {
		t.Errorf("distance of kitten and sitting is %d, want 3", got)
	}
}
