package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/regular"
)

// firstPart is a valid configuration by itself, and all has an output more.
const (
	firstPart = "thing: a\nbroker: {endpoint: 127.0.0.1}\nreadings: {topic: t}\n"
	all       = firstPart + "outputs: [{name: pump, pin: GPIO27}]\n"
)

// put writes a file in place, as if at this time of the bubble's.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// A file that is being written is read when it is whole: its first part would be a valid
// configuration without outputs.
func TestReadSettled(t *testing.T) {
	for name, c := range map[string]struct {
		write func(t *testing.T, path string) // while it is read
		read  func(t *testing.T, path string) func(string, int64) ([]byte, error)
		takes time.Duration // at most
		want  string        // "" does not settle
	}{
		"old": {func(t *testing.T, path string) {
			put(t, path, all)
			<-time.After(time.Minute)
		}, nil, 0, all},
		"written in parts": {func(t *testing.T, path string) {
			put(t, path, firstPart)
			time.AfterFunc(settleFor/2, func() { put(t, path, all[:len(all)-5]) })
			time.AfterFunc(settleFor, func() { put(t, path, all) })
		}, nil, 4 * settleFor, all},
		"written in parts after 2038, on 32-bit ARM": {func(t *testing.T, path string) {
			part := func(text string) {
				put(t, path, text)
				if err := os.Chtimes(path, time.Time{}, time.Now().AddDate(-50, 0, 0)); err != nil {
					t.Error(err)
				}
			}
			part(firstPart)
			time.AfterFunc(settleFor/2, func() { part(all[:len(all)-5]) })
			time.AfterFunc(settleFor, func() { part(all) })
		}, nil, 4 * settleFor, all},
		"replaced by another": {func(t *testing.T, path string) {
			put(t, path, firstPart)
			time.AfterFunc(settleFor/2, func() {
				put(t, path+".new", all)
				if err := os.Rename(path+".new", path); err != nil {
					t.Error(err)
				}
			})
		}, nil, 4 * settleFor, all},
		"written while it is read": {func(t *testing.T, path string) {
			put(t, path, firstPart)
			<-time.After(time.Minute)
		}, func(t *testing.T, path string) func(string, int64) ([]byte, error) {
			reads := 0
			return func(path string, most int64) ([]byte, error) {
				data, err := regular.Read(path, most)
				if reads++; reads == 1 {
					put(t, path, all)
				}
				return data, err
			}
		}, 4 * settleFor, all},
		"written for ever": {func(t *testing.T, path string) {
			go func() {
				text := firstPart
				for range 100 {
					put(t, path, text)
					text += "#\n"
					<-time.After(settleFor / 2)
				}
			}()
			synctest.Wait()
		}, nil, settleLimit + settleFor, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "fieldpost.yaml")
				read := regular.Read
				if c.read != nil {
					read = c.read(t, path)
				}
				c.write(t, path)
				began := time.Now()
				data, err := readSettled(path, read)
				if err != nil || string(data) != c.want {
					t.Errorf("read %q, %v; want %q", data, err, c.want)
				}
				if took := time.Since(began); took > c.takes {
					t.Errorf("took %v, at most %v", took, c.takes)
				}
				<-time.After(time.Minute)
			})
		})
	}
}

// Errors name the file, as those of Load do.
func TestLoadSettledErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := LoadSettled(missing); err == nil || !strings.HasPrefix(err.Error(), missing+": there is no such file") {
		t.Errorf("got %v", err)
	}
	if _, err := LoadSettled(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("got %v", err)
	}
}
