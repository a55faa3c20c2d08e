package identity

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// FuzzPEM: whatever a file holds, it is parsed or refused in a line without the
// key's contents, and what begins in it is not passed over.
func FuzzPEM(f *testing.F) {
	names, err := os.ReadDir("../uplink/testdata/pem")
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range names {
		data, err := os.ReadFile("../uplink/testdata/pem/" + n.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
		f.Add(slices.Concat(byteOrderMark, data, byteOrderMark, data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		good, bad, err := ParseCertificates(data)
		if err == nil && len(good) == 0 || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%d certificates, %v", len(good), err)
		}
		begins := bytes.Count(bytes.ReplaceAll(append([]byte("\n"), data...), byteOrderMark, nil), []byte("\n-----BEGIN CERTIFICATE-----\n"))
		if err == nil && len(good)+len(bad) < begins {
			t.Errorf("%d and %d of %d certificates", len(good), len(bad), begins)
		}
		if k, err := ParseKey(data); (k == nil) == (err == nil) || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, %v", k, err)
		}
	})
}
