package daemon_test

import (
	"testing"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/daemontest"
)

// On the wire readings have the filtered and the derived values, under their new names, and numbers
// without a gap although most of them are kept back.
func TestFilteredReadings(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	s.Bus.AddBME280(0x77)
	cfg := s.Config(`  - name: attic
    chip: bme280
    bus: i2c-1
    address: 0x77
    every: 20ms
    filters:
      - {filter: scale, quantity: pressure, by: 0.01, as: pressure_hpa, unit: hPa}
      - {filter: round, digits: 0}
      - {filter: delta, quantity: pressure_hpa, by: 500, heartbeat: 1s}
    derive: [dew_point]`, "")
	r := s.Start(cfg)
	for seq := 1.0; seq <= 3; seq++ {
		m := daemontest.Await(t, "reading", heard, func(m map[string]any) bool { return m["sensor"] == "attic" && m["seq"] != nil })
		hpa, is := m["pressure_hpa"].(float64)
		_, old := m["pressure"]
		_, dew := m["dew_point"].(float64)
		if m["seq"] != seq || !is || old || !dew || hpa != float64(int(hpa)) || hpa < 300 || hpa > 1100 {
			t.Errorf("reading %v, want number %v", m, seq)
		}
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}
