package local

import (
	"encoding/json"
	"errors"
	"testing"

	"fieldpost/daemon/api"
)

func TestArguments(t *testing.T) {
	var v struct {
		Sensor string `json:"sensor"`
	}
	if err := Arguments(json.RawMessage(`{"sensor":"air"}`), &v); err != nil || v.Sensor != "air" {
		t.Errorf("got %+v, %v", v, err)
	}
	for _, with := range []string{"", `{"sensor":1}`, `{"name":"air"}`, `[]`} {
		var said *api.Error
		if err := Arguments(json.RawMessage(with), &v); !errors.As(err, &said) || said.Code != api.Malformed {
			t.Errorf("%q: %v", with, err)
		}
	}
}
