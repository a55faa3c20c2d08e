package systemd

import (
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]int{
		"systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT\n": 252,
		"systemd 257 (257.9-1~deb13u1)\n":               257,
		"systemd 241":                                   241,
	} {
		if v, err := parseVersion(out); v != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", out, v, err, want)
		}
	}
	for _, out := range []string{"", "systemd", "systemd x", "systemd -1", "busybox 252", "\nsystemd 252"} {
		if v, err := parseVersion(out); v != 0 || err == nil || !strings.Contains(err.Error(), "systemctl --version printed") {
			t.Errorf("%q: %d, %v", out, v, err)
		}
	}
}
