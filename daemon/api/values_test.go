package api_test

import (
	"encoding/json"
	"testing"

	"fieldpost/daemon/api"
)

func TestValues(t *testing.T) {
	var v api.Values
	for _, bad := range []string{`[1]`, `{"a":}`, `null`} {
		if err := v.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is taken for %v", bad, v)
		}
	}
	if _, err := json.Marshal(api.Values{{Name: "x", Value: func() {}}}); err == nil {
		t.Error("a function has a form in JSON")
	}
}
