package need

import (
	"slices"
	"testing"

	"fieldpost/daemon/config"
	"fieldpost/sensors"
)

// Where values go plainly, the policy allows each topic that a value or a fault goes to.
func TestPlainValuesAreAllowed(t *testing.T) {
	cfg := &config.Config{
		Thing: "t", Readings: config.Readings{Topic: "home/{thing}/{sensor}/{quantity}"},
		Sensors: []sensors.Config{{Name: "air", Chip: "bme280"}, {Name: "out", Chip: "bme280", Derive: []string{"dew_point"},
			Filters: []sensors.Filter{{Filter: "scale", Quantity: "pressure", By: 0.01, As: "pressure_hpa", Unit: "hPa"}}}},
	}
	n := needs{}
	n.publish(cfg)
	for _, want := range []string{"air/temperature", "air/humidity", "air/pressure", "out/pressure_hpa", "out/dew_point", "air/fault", "air/gap", "fieldpost/fault", "fieldpost/gap", "fieldpost/status"} {
		if !slices.ContainsFunc(n.all, func(x Need) bool { return x.Resource == "topic/home/t/"+want }) {
			t.Errorf("%s is missing of %+v", want, n.all)
		}
	}
	if slices.ContainsFunc(n.all, func(x Need) bool { return x.Resource == "topic/home/t/air/status" }) {
		t.Error("a topic is allowed to which nothing goes")
	}
}
