package local

import (
	"errors"
	"os/user"
	"strings"
	"testing"
)

func TestPeer(t *testing.T) {
	lookup := func(name string, err error) func(string) (*user.User, error) {
		return func(uid string) (*user.User, error) {
			if uid != "4000000000" {
				t.Errorf("asked for uid %s", uid)
			}
			return &user.User{Username: name}, err
		}
	}
	p := Peer{UID: 4_000_000_000, PID: 4242}
	for want, named := range map[string]Peer{
		"uid=4000000000(pi) pid=4242":      p.named(lookup("pi", nil)),
		"uid=4000000000 pid=4242":          p.named(lookup("", errors.New("unknown"))),
		"uid=4000000000(_a-b.c$) pid=4242": p.named(lookup("_a-b.c$", nil)),
	} {
		if named.String() != want {
			t.Errorf("got %s, want %s", named, want)
		}
	}
	for _, name := range []string{"root) pid=1", "a b", "", "ü", "a\n", strings.Repeat("a", 33)} {
		if q := p.named(lookup(name, nil)); q.User != "" {
			t.Errorf("%q is shown as %s", name, q)
		}
	}
}
