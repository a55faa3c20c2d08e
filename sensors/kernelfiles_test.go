package sensors_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/sensors"
)

// overKernel runs a test for each chip that is read from files of the kernel.
func overKernel(t *testing.T, test func(*testing.T, sensors.Chip)) {
	for _, name := range []string{"hwmon", "iio", "dht11", "dht22", "ds18b20", "thermal"} {
		c, ok := sensors.Lookup(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, c) })
		})
	}
}

// kernelFiles lists the files of a simulated board's /sys, without links.
func kernelFiles(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	return files
}

// Whatever one of the kernel's files holds, there is an error or a possible value. That is so for
// a sensor that is open, and for one that is opened; it is well again with the file.
func TestKernelGarbage(t *testing.T) {
	garbage := map[string]string{
		"empty": "", "newline": "\n", "words": "not a number\n", "minus": "-\n", "huge": "99999999999999999999\n", "most": "9223372036854775807\n",
		"least": "-9223372036854775808\n", "infinite": "inf\n", "not a number": "NaN\n", "hexadecimal": "0x7fff\n", "zero bytes": strings.Repeat("\x00", 64),
		"ones": strings.Repeat("\xff", 64), "long": strings.Repeat("1", 3*4096), "two lines": "1\n2\n", "a number and more": "21000 mC\n",
	}
	overKernel(t, func(t *testing.T, c sensors.Chip) {
		b, _, cfg := place(t, c)
		want := mustSense(t, c, mustOpen(t, c, b, cfg))
		for _, file := range kernelFiles(t, b.Root()) {
			sound, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range garbage {
				s := mustOpen(t, c, b, cfg)
				write(t, file, text)
				for _, when := range []string{"open", "opened"} {
					if when == "opened" {
						s.Close()
						if s, err = c.Open(b, cfg); err != nil {
							s = nil
							break
						}
					}
					fields, err := sense(c, s)
					if err == nil && len(fields) == 0 || err != nil && fields != nil {
						t.Errorf("%s of %s: %v, %v", name, file, fields, err)
					}
					for _, f := range fields {
						if err := possible(s, f); err != nil {
							t.Errorf("%s of %s, %s: %v", name, file, when, err)
						}
					}
				}
				if s != nil {
					s.Close()
				}
				write(t, file, string(sound))
				if got := mustSense(t, c, mustOpen(t, c, b, cfg)); !near(got, want) {
					t.Fatalf("%s of %s, well again: %v, want %v", name, file, got, want)
				}
			}
		}
	})
}

// Each digit of each file is another one in turn: there is an error or a possible value, and never
// one after the file is right again. A directory instead of a file is an error.
func TestKernelFlippedByte(t *testing.T) {
	overKernel(t, func(t *testing.T, c sensors.Chip) {
		b, _, cfg := place(t, c)
		s := mustOpen(t, c, b, cfg)
		want := mustSense(t, c, s)
		for _, file := range kernelFiles(t, b.Root()) {
			sound, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i := range sound {
				bad := append([]byte(nil), sound...)
				bad[i] ^= 1
				write(t, file, string(bad))
				fields, err := sense(c, s)
				for _, f := range fields {
					if wrong := possible(s, f); wrong != nil || err != nil {
						t.Errorf("byte %d of %s: %v, %v", i, file, wrong, err)
					}
				}
				write(t, file, string(sound))
				if err != nil {
					s.Close()
					s = mustOpen(t, c, b, cfg)
				}
				if got := mustSense(t, c, s); !near(got, want) {
					t.Fatalf("byte %d of %s, well again: %v, want %v", i, file, got, want)
				}
			}
		}
	})
}

// The device comes back under another number, as after its driver was loaded again.
func TestKernelMoves(t *testing.T) {
	for _, name := range []string{"hwmon", "iio", "dht11", "dht22", "thermal"} {
		c, _ := sensors.Lookup(name)
		b, _, cfg := place(t, c)
		s := mustOpen(t, c, b, cfg)
		want := mustSense(t, c, s)
		class := map[string]string{"hwmon": "sys/class/hwmon", "thermal": "sys/class/thermal"}[name]
		if class == "" {
			class = "sys/bus/iio/devices"
		}
		dirs, err := os.ReadDir(filepath.Join(b.Root(), class))
		if err != nil || len(dirs) != 1 {
			t.Fatalf("%s: %v, %v", name, dirs, err)
		}
		old := filepath.Join(b.Root(), class, dirs[0].Name())
		if err := os.Rename(old, strings.TrimRight(old, "0123456789")+"7"); err != nil {
			t.Fatal(err)
		}
		if fields, err := s.Sense(); err == nil && !near(fields, want) {
			t.Errorf("%s: %v, want %v or an error", name, fields, want)
		}
		s.Close()
		if got := mustSense(t, c, mustOpen(t, c, b, cfg)); !near(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
