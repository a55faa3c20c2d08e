package spool

import (
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// A daemon that runs for years has thousands of outages that are too long for its memory,
// perhaps with a card that died in the first of them. Whatever the disk does, what the spool
// has in memory after an outage is the same after the tenth and the sixtieth.
func TestNothingGrowsFromOutageToOutage(t *testing.T) {
	broken := func(string, string) error { return syscall.EIO }
	readOnly := func(op, _ string) error {
		if op == "read" || op == "list" {
			return nil
		}
		return syscall.EROFS
	}
	for name, disk := range map[string]func(outage int) func(op, file string) error{
		"healthy":     func(int) func(string, string) error { return nil },
		"never there": func(int) func(string, string) error { return broken },
		"dies": func(outage int) func(string, string) error {
			if outage < 5 {
				return nil
			}
			return broken
		},
		"becomes read-only": func(outage int) func(string, string) error {
			if outage < 5 {
				return nil
			}
			return readOnly
		},
		"full": func(int) func(string, string) error { return full },
		"comes and goes": func(outage int) func(string, string) error {
			if outage%2 == 0 {
				return nil
			}
			return broken
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newMemDisk()
				d.Failing(disk(0))
				r := newRig(t, d, Options{AtRisk: time.Second, Memory: 512 << 10, MaxBytes: 1 << 20}).start()
				r.pad = map[string]string{"air": strings.Repeat("x", 2000), "soil": strings.Repeat("x", 1000)}
				var early, late map[string]int
				for outage := range 60 {
					d.Failing(disk(outage))
					r.outage()
					switch {
					case outage >= 10 && outage < 20:
						early = most(early, sizes(r.s))
					case outage >= 50:
						late = most(late, sizes(r.s))
					}
				}
				for what, n := range late {
					if strings.HasPrefix(what, "spool.flow.") {
						continue // what was sent and is not cleared away yet: as much as there is memory for
					}
					if n > early[what]+256 {
						t.Errorf("%s has %d elements in all, and had %d", what, n, early[what])
					}
				}
				d.Failing(nil)
				wait(2 * time.Minute)
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// outage has more readings taken than memory has room for, and then all of them sent.
func (r *rig) outage() {
	for i := range 4 {
		for range 80 {
			r.add(message.Reading, "air")
			r.add(message.Reading, "soil")
		}
		r.add(message.Edge, "door")
		r.appendRecord(message.Record{Kind: message.Answer})
		wait(time.Duration(i+1) * time.Second)
	}
	for {
		items := r.takeItems(32)
		if len(items) == 0 {
			break
		}
		for _, x := range items {
			r.s.Ack(x.ID)
		}
	}
	wait(2 * time.Minute)
}

// most keeps the larger one of each size.
func most(a, b map[string]int) map[string]int {
	for what, n := range a {
		b[what] = max(b[what], n)
	}
	return b
}

// sizes adds up the elements of all slices and maps of a spool, by the field that has them.
func sizes(s *Spool) map[string]int {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	all, seen := map[string]int{}, map[any]bool{}
	var walk func(where string, v reflect.Value)
	walk = func(where string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if x := [2]any{v.Pointer(), v.Type()}; !v.IsNil() && !seen[x] {
				seen[x] = true
				walk(where, v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.Name != "o" && f.Name != "Clock" && f.Name != "Health" {
					walk(fmt.Sprint(v.Type(), ".", f.Name), v.Field(i))
				}
			}
		case reflect.Slice:
			all[where] += v.Len()
			fallthrough
		case reflect.Array:
			for i := range v.Len() {
				walk(where, v.Index(i))
			}
		case reflect.Map:
			all[where] += v.Len()
			for it := v.MapRange(); it.Next(); {
				walk(where, it.Value())
			}
		}
	}
	walk("", reflect.ValueOf(s))
	return all
}
