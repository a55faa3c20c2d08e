package doctor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/doctor"
)

// A page that other machines see over plain HTTP is a warning with what to do instead, and no
// failure; one on a loopback address is none.
func TestCheckOfThePage(t *testing.T) {
	m := newMachine(t)
	if err := os.WriteFile(filepath.Join(m.dir, "page.token"), []byte("a token for the tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for listen, want := range map[string]bool{"127.0.0.1:8080": false, `"[::1]:8080"`: false, "192.168.1.5:8080": true, "0.0.0.0:8080": true, `"[::]:8080"`: true} {
		cfg := m.config("", "local: {listen: "+listen+", token_file: page.token, hosts: [greenhouse.local]}")
		var out bytes.Buffer
		if err := doctor.Check(cfg, doctor.Machine{}, time.Now(), &out); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
		if got := strings.Contains(out.String(), "warning: local.listen: ") && strings.Contains(out.String(), "`ssh -L`"); got != want {
			t.Errorf("%s: warned %v:\n%s", listen, got, out.String())
		}
	}
}

// The lines for a firewall let in whoever reads the metrics and opens the page.
func TestFirewallOfThePage(t *testing.T) {
	m := newMachine(t)
	for local, want := range map[string]string{
		"":                     "IPAddressAllow=192.0.2.1\n",
		"listen: 127.0.0.1:80": "IPAddressAllow=192.0.2.1\n  IPAddressAllow=localhost\n",
		"listen: 127.0.0.1:80, metrics: 127.0.0.1:81":                                           "IPAddressAllow=192.0.2.1\n  IPAddressAllow=localhost\n",
		"listen: 192.0.2.9:80, metrics: 127.0.0.1:81, token_file: page.token, hosts: [a.local]": "IPAddressAllow=192.0.2.1\n  IPAddressAllow=localhost\n  and an IPAddressAllow= for each machine that opens the web page\n",
	} {
		cfg := m.config("", "local: {"+local+"}")
		cfg.Broker.Endpoint = "192.0.2.1:8883"
		var out bytes.Buffer
		if err := doctor.Check(cfg, doctor.Machine{Systemd: 252}, time.Now(), &out); err != nil {
			t.Errorf("%s: %v", local, err)
		}
		_, lines, _ := strings.Cut(out.String(), "IPAddressDeny=any\n  ")
		if !strings.HasPrefix(lines, want) || strings.Count(lines, "IPAddressAllow") != strings.Count(want, "IPAddressAllow") {
			t.Errorf("%s:\n%s", local, out.String())
		}
	}
}
