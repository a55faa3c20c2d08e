package sensors_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/option"
)

func TestCatalog(t *testing.T) {
	all := sensors.Catalog()
	if !slices.IsSortedFunc(all, func(a, b sensors.Chip) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not in order of names")
	}
	name := regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	for i, c := range all {
		if !name.MatchString(c.Name) || i > 0 && all[i-1].Name == c.Name {
			t.Errorf("name %q is odd or taken", c.Name)
		}
		if c.Title == "" || c.Source == "" || c.Open == nil || c.Look == nil {
			t.Errorf("%s: title, source, Open or Look is missing", c.Name)
		}
		if c.Every < time.Second || c.Worst <= 0 || c.Worst > c.Every {
			t.Errorf("%s: every %v, worst %v", c.Name, c.Every, c.Worst)
		}
		if c.Options.Has("address") != (c.Addresses != nil) {
			t.Errorf("%s: takes the key address, or has addresses, but not both", c.Name)
		}
		checkOptions(t, c)
		checkQuantities(t, c)
	}
}

// checkOptions checks the rules of a chip's keys against the keys and their types, and
// the defaults against the rules.
func checkOptions(t *testing.T, c sensors.Chip) {
	t.Helper()
	keys := c.Options.Keys()
	for i, k := range keys {
		if k == "name" || k == "chip" || k == "every" || slices.Contains(keys[:i], k) {
			t.Errorf("%s: key %q is taken", c.Name, k)
		}
	}
	v := c.Options.New()
	if !reflect.DeepEqual(v.Interface(), c.Options.New().Interface()) {
		t.Errorf("%s: options of type %s cannot be compared", c.Name, v.Type())
	}
	for k, r := range c.Options.Rules {
		index, ok := option.Field(v.Type(), k)
		if !ok {
			t.Errorf("%s: a rule for %q, which is no key", c.Name, k)
			continue
		}
		f := v.FieldByIndex(index)
		if r.Item != nil {
			checkList(t, c.Name+": "+k, r, f.Type())
		}
		if (r.File || r.Dir) && f.Kind() != reflect.String {
			t.Errorf("%s: %s names a file, but is a %s", c.Name, k, f.Type())
		}
		if r.Check != nil { // panics if it is for another type
			if reason := r.Check(f.Interface()); reason != "" && !f.IsZero() {
				t.Errorf("%s: default of %s: %s", c.Name, k, reason)
			}
		}
	}
}

// checkList checks the rules of a list's entries, and the defaults against the rules.
func checkList(t *testing.T, where string, r option.Rule, list reflect.Type) {
	t.Helper()
	entry := reflect.ValueOf(r.Item)
	if list.Kind() != reflect.Slice || list.Elem() != entry.Type() || r.Most < 1 {
		t.Fatalf("%s: a list of at most %d %s, whose entries are %s", where, r.Most, list, entry.Type())
	}
	for k, rule := range r.Items {
		index, ok := option.Field(entry.Type(), k)
		if !ok {
			t.Errorf("%s: a rule for %q, which is no key", where, k)
			continue
		}
		if v := entry.FieldByIndex(index); rule.Check != nil && !v.IsZero() && rule.Check(v.Interface()) != "" {
			t.Errorf("%s: default of %s: %s", where, k, rule.Check(v.Interface()))
		}
	}
}

func checkQuantities(t *testing.T, c sensors.Chip) {
	t.Helper()
	if len(c.Quantities) == 0 && c.Measures == nil {
		t.Errorf("%s: gives nothing", c.Name)
	}
	reserved := []string{"thing", "sensor", "kind", "run", "seq", "time", "clock"}
	for _, q := range c.Quantities {
		if q.Name == "" || slices.Contains(reserved, q.Name) || !(q.Min < q.Max) {
			t.Errorf("%s: quantity %+v", c.Name, q)
		}
	}
}

// A quantity has the same unit with all chips.
func TestUnits(t *testing.T) {
	units := map[string]string{}
	for _, c := range sensors.Catalog() {
		for _, q := range c.Quantities {
			if u, ok := units[q.Name]; ok && u != q.Unit {
				t.Errorf("%s: %s in %q, elsewhere in %q", c.Name, q.Name, q.Unit, u)
			}
			units[q.Name] = q.Unit
		}
	}
}

func TestLookup(t *testing.T) {
	for _, c := range sensors.Catalog() {
		if got, ok := sensors.Lookup(c.Name); !ok || got.Title != c.Title {
			t.Errorf("Lookup(%q) = %q, %v", c.Name, got.Title, ok)
		}
	}
	for _, name := range []string{"", "BME280", "dht21"} {
		if c, ok := sensors.Lookup(name); ok {
			t.Errorf("Lookup(%q) = %q", name, c.Name)
		}
	}
}

// Errors name what is missing or wrong in the configuration.
func TestBadConfigurations(t *testing.T) {
	for _, c := range []struct {
		chip string
		cfg  sensors.Config
		want string
	}{
		{"bme280", sensors.Config{}, "bus is missing"},
		{"bme280", sensors.Config{Options: sensors.I2C{Bus: "i2c-1", Address: 0x48}}, "want 0x76 or 0x77 (got 0x48)"},
		{"bmp280", sensors.Config{Options: sensors.I2C{Bus: "i2c-9"}}, "not there"},
		{"tmp102", sensors.Config{Options: sensors.I2C{Bus: "i2c-1", Address: 0x4C}}, "want 0x48 to 0x4b (got 0x4c)"},
		{"lm75", sensors.Config{Options: sensors.I2C{Bus: "i2c-1", Address: 0x38}}, "(got 0x38)"},
		{"pct2075", sensors.Config{Options: sensors.I2C{Bus: "i2c-1", Address: 0x34}}, "want 0x28 to 0x2f, 0x35 to 0x37, 0x48 to 0x4f or 0x70 to 0x77 (got 0x34)"},
		{"lm75b", sensors.Config{}, "bus is missing"},
		{"gpio", sensors.Config{}, "pin is missing"},
		{"gpio", sensors.Config{Options: sensors.GPIO{Pin: "GPIO99"}}, `"GPIO99"`},
		{"gpio", sensors.Config{Options: sensors.GPIO{Pin: "GPIO17", Debounce: -time.Second}}, "debounce: want 0 or more (got -1s)"},
		{"thermal", sensors.Config{Options: sensors.Thermal{Zone: "gpu"}}, `zone "gpu": not there; there are cpu-thermal (0)`},
	} {
		chip, _ := sensors.Lookup(c.chip)
		b, _, _ := place(t, chip)
		setThermal(t, b)
		c.cfg.Chip = c.chip
		s, err := chip.Open(b, c.cfg)
		if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, want %q", c.chip, c.cfg, err, c.want)
		}
		if err := chip.Look(b, c.cfg); c.want != "debounce: want 0 or more (got -1s)" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %+v, looked at: %v, want %q", c.chip, c.cfg, err, c.want)
		}
	}
}

// The README's table has all chips.
func TestReadmeHasAllChips(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range sensors.Catalog() {
		row := regexp.MustCompile("(?m)^\\| .*`" + c.Name + "`.* \\|.* \\|$")
		if !row.Match(text) {
			t.Errorf("chip %s has no row in the table", c.Name)
		}
	}
}
