package config

import (
	"reflect"
	"testing"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
)

// A table of registers is read with the defaults of its entries. Units of one port may be
// several sensors, and filters know the table's quantities.
func TestModbusTable(t *testing.T) {
	c := good(t, base+`sensors:
  - name: pump
    chip: modbus
    device: ttyUSB0
    baud: 19200
    parity: even
    unit_id: 12
    every: 5s
    registers:
      - {name: voltage_1, register: 0, type: f32}
      - {name: flow, register: 0x0156, function: 3, type: i32, words: low, scale: 0.1, unit: L/min}
    filters:
      - {filter: scale, quantity: flow, by: 60, as: flow_hourly, unit: L/h}
  - {name: mains, chip: sdm120, device: ttyUSB0, baud: 19200, parity: even}
`)
	want := sensors.Modbus{
		ModbusPort: sensors.ModbusPort{Serial: sensors.Serial{Device: "ttyUSB0"}, Baud: 19200, Parity: board.ParityEven, UnitID: 12},
		Registers: []sensors.ModbusRegister{
			{Name: "voltage_1", Function: 4, Type: "f32", Words: "high", Scale: 1},
			{Name: "flow", Register: 0x156, Function: 3, Type: "i32", Words: "low", Scale: 0.1, Unit: "L/min"},
		},
	}
	if got := c.Sensors[0]; !reflect.DeepEqual(got.Options, want) || got.Every != 5*time.Second {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := filter.Units(c.Sensors[0]); !reflect.DeepEqual(got, map[string]string{"voltage_1": "V", "flow": "L/min", "flow_hourly": "L/h"}) {
		t.Errorf("units are %v", got)
	}
	if got := c.Sensors[1].Place(); got != (sensors.Place{Port: "ttyUSB0", Unit: 1}) {
		t.Errorf("the meter is at %+v", got)
	}
}
