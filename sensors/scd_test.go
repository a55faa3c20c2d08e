package sensors

import (
	"errors"
	"fmt"
	"testing"
)

// The data sheets' examples: SCD4x, section 3.5 (500 ppm, 25 °C, 37 %); SCD30, section
// 1.4.5 (439 ppm, 27.2 °C, 48.8 %).
func TestCO2Examples(t *testing.T) {
	words, err := sensirionWords([]byte{0x01, 0xF4, 0x33, 0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := scd4xValues(words); err != nil || fmt.Sprint(v) != "[500 25 37]" {
		t.Errorf("SCD4x: %v, %v", v, err)
	}
	words, err = sensirionWords([]byte{0x43, 0xDB, 0xCB, 0x8C, 0x2E, 0x8F, 0x41, 0xD9, 0x70, 0xE7, 0xFF, 0xF5, 0x42, 0x43, 0xBF, 0x3A, 0x1B, 0x74})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := scd30Values(words); err != nil || fmt.Sprint(v) != "[439.1 27.24 48.81]" {
		t.Errorf("SCD30: %v, %v", v, err)
	}
	for _, f := range []func([]uint16) ([]float64, error){scd4xValues, scd30Values} {
		if v, err := f(make([]uint16, 6)); !errors.Is(err, ErrFault) {
			t.Errorf("0 ppm: %v, %v", v, err)
		}
	}
}
