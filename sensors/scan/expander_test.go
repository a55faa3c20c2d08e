package scan

import (
	"strings"
	"testing"
)

// A chip that may be an I/O expander gets the lines of config.txt that load its driver.
func TestExpanderHint(t *testing.T) {
	for _, c := range []struct {
		found Found
		want  []string
	}{
		{Found{Address: 0x20}, []string{"dtoverlay=mcp23017,addr=0x20", "dtoverlay=pcf857x,pcf8574,addr=0x20", "dtoverlay=pca953x,tca9555,addr=0x20"}},
		{Found{Address: 0x3f}, []string{"dtoverlay=pcf857x,pcf8574a,addr=0x3f"}},
		{Found{Address: 0x50}, []string{"knows no chip"}},
		{Found{Address: 0x48, Or: []string{"lm75"}}, []string{"may be lm75"}},
	} {
		text := c.found.text()
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("0x%02x: %s, want %s", c.found.Address, text, want)
			}
		}
		if c.found.Address == 0x48 && strings.Contains(text, "dtoverlay") {
			t.Errorf("0x%02x: %q", c.found.Address, text)
		}
	}
}
