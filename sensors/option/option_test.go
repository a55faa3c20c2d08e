package option

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

type port struct {
	Device string `yaml:"device"`
}

type keys struct {
	port
	Rate    int           `yaml:"rate"`
	Hold    time.Duration `yaml:"hold"`
	hidden  int
	Ignored int `yaml:"-"`
}

// Keys of an embedded struct count like its own, and come first. Fields without a key are
// ignored.
func TestKeys(t *testing.T) {
	s := Set{Defaults: keys{port: port{"a"}, Rate: 3, hidden: 4}}
	for range 2 { // the second time they are known
		if got := s.Keys(); !slices.Equal(got, []string{"device", "rate", "hold"}) {
			t.Errorf("keys %q", got)
		}
	}
	for _, k := range []string{"", "-", "Rate", "hidden", "Ignored"} {
		if s.Has(k) {
			t.Errorf("%q is a key", k)
		}
		if _, ok := Field(reflect.TypeFor[keys](), k); ok {
			t.Errorf("%q is a field's key", k)
		}
	}
	if got := (Set{}).Keys(); got != nil {
		t.Errorf("nothing takes %q", got)
	}
	v := s.New()
	f, _ := Field(v.Type(), "device")
	v.FieldByIndex(f).SetString("b")
	if v.Interface().(keys).Device != "b" || s.Defaults.(keys).Device != "a" || s.New().Interface() != s.Defaults {
		t.Errorf("%+v, defaults %+v", v, s.Defaults)
	}
}

func TestChecks(t *testing.T) {
	within := Between(time.Second, 90*time.Minute, Duration)
	for d, want := range map[time.Duration]string{time.Second: "", 90 * time.Minute: "", time.Millisecond: "want 1s to 1h30m", 2 * time.Hour: "want 1s to 1h30m"} {
		if got := within(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	one := OneOf("on", "off", "keep")
	if one("keep") != "" || one("x") != "want on, off or keep" {
		t.Errorf("%q, %q", one("keep"), one("x"))
	}
}
