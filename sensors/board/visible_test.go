package board

import "testing"

// Names come from the kernel, from files, and, for the holder of a line, from any
// program. None is printed unquoted if a terminal would interpret it.
func TestNamesAreVisible(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{LineID{Label: "pinctrl-bcm2711", Offset: 17, Name: "GPIO17"}.String(), "pinctrl-bcm2711:17 (GPIO17)"},
		{LineID{Label: "a\x1b[2J", Offset: 1}.String(), `"a\x1b[2J":1`},
		{LineID{Label: "a b", Offset: 1, Name: "\u202e"}.String(), `a b:1 ("\u202e")`},
		{(&BusyError{Line: LineID{Label: "l"}, Holder: "x\ny"}).Error(), `line l:0 is held by "x\ny"`},
		{(&BusyError{Line: LineID{Label: "l"}, Holder: "\xff"}).Error(), `line l:0 is held by "\xff"`},
		{(&BusyError{Line: LineID{Label: "l"}, Holder: "gpio-keys"}).Error(), "line l:0 is held by gpio-keys"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
