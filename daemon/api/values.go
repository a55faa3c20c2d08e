package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"fieldpost/sensors"
)

// Values are a reading's values. In JSON they are an object, in the same order.
type Values []sensors.Field

// MarshalJSON returns an object.
func (v Values) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.Name)
		if err != nil {
			return nil, fmt.Errorf("encode %q: %w", f.Name, err)
		}
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, fmt.Errorf("encode %q: %w", f.Name, err)
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads an object; numbers are float64.
func (v *Values) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("decode values: want an object")
	}
	*v = nil
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("decode values: %w", err)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("decode values: %w", err)
		}
		*v = append(*v, sensors.Field{Name: name.(string), Value: value}) // only a key can be here
	}
	return nil
}
