package sampler

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// Three meters share a port. One of them never answers: the others lose no reading, each has
// its own values, and the fault names the one that is silent.
func TestSilentMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		line := b.AddModbus("ttyUSB0", 9600, board.ParityNone)
		var configs []sensors.Config
		for id := range uint8(3) {
			line.AddUnit(id+1).Set(0, 100*uint16(id+1))
			configs = append(configs, sensors.Config{Name: fmt.Sprintf("meter%d", id+1), Chip: "modbus", Every: 2 * time.Second, Options: sensors.Modbus{
				ModbusPort: sensors.ModbusPort{Serial: sensors.Serial{Device: "ttyUSB0"}, Baud: 9600, Parity: board.ParityNone, UnitID: id + 1},
				Registers:  []sensors.ModbusRegister{{Name: "voltage", Function: 4, Type: "u16", Words: "high", Scale: 1}},
			}})
		}
		silent := line.AddUnit(2)
		silent.Silence(true)
		r := onBoard(t, b, configs...)
		pass(101 * time.Second)
		all := strings.Join(r.got(), "\n")
		for name, volts := range map[string]float64{"meter1": 100, "meter3": 300} {
			if n := strings.Count(all, name+" reading"); n != 51 {
				t.Errorf("%s was read %d times in 101s, want 51", name, n)
			}
			if first, last := fieldsOf(r, name); first["voltage"] != volts || last["voltage"] != volts {
				t.Errorf("%s: %v, %v, want %v", name, first, last, volts)
			}
		}
		asked := 0
		for _, id := range line.Asked() {
			if id == 2 {
				asked++
			}
		}
		if asked < 4 || asked > 24 {
			t.Errorf("the silent meter was asked %d times in 101s", asked)
		}
		silent.Set(0, 200)
		silent.Silence(false)
		pass(70 * time.Second)
		same(t, "faults", changed(r), []string{"meter2 no_answer raised", "meter2 no_answer cleared"})
		r.stop()
	})
}
