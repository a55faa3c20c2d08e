package sensors

import (
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Energy meters on Modbus RTU with known registers: Eastron's SDM120, SDM230 and SDM630, and
// Peacefair's PZEM-004T.
//
// Sources: Eastron, SDM120-Modbus, SDM230-Modbus and SDM630-Modbus, Modbus protocol
// implementation, registers and function 4. The registers were compared with public lists of
// them, as the manuals themselves have no dates. The manual of the SDM72D of the same family
// says that a question may be for 30 values at most. Peacefair, PZEM-004T V3.0 user manual,
// section 2.3.
//
// Eastron counts kilowatt hours, Peacefair watt hours; fieldpost has joules for all energy.

const (
	joulesOfKWh = 3.6e6
	joulesOfWh  = 3600
)

var (
	sdm120  = meterChip("sdm120", "Eastron SDM120: energy, one phase to 45 A", "SDM120-Modbus protocol implementation", 2400, sdmSingle(), sdmGap, sdmLimits(60))
	sdm230  = meterChip("sdm230", "Eastron SDM230: energy, one phase to 100 A", "SDM230-Modbus protocol implementation", 2400, sdmSingle(), sdmGap, sdmLimits(120))
	sdm630  = meterChip("sdm630", "Eastron SDM630: energy, three phases", "SDM630-Modbus protocol implementation", 9600, sdmThree(), sdmGap, sdmLimits(10000))
	pzem004 = meterChip("pzem004t", "Peacefair PZEM-004T V3: energy, one phase", "PZEM-004T V3.0 user manual", 9600, pzemRegisters, 0, meterLimits{volts: 300, amps: 110, watts: 30000, joules: 9999.999 * joulesOfKWh})
)

// sdmGap is how many registers Eastron's meters are asked for in vain, to need fewer questions.
const sdmGap = 12

// meterLimits are the greatest possible values of a meter.
type meterLimits struct{ volts, amps, watts, joules float64 }

// sdmLimits are those of a meter for so many amperes. Its display ends at 999999.99 kWh.
func sdmLimits(amps float64) meterLimits {
	return meterLimits{volts: 500, amps: amps, watts: 3 * 500 * amps, joules: 1e6 * joulesOfKWh}
}

// float32At is a value of 32 bits of Eastron's.
func float32At(name string, register uint16, scale float64) ModbusRegister {
	return ModbusRegister{Name: name, Register: register, Function: readInput, Type: "f32", Words: "high", Scale: scale}
}

// sdmEnergy are the counters of all of Eastron's meters.
func sdmEnergy() []ModbusRegister {
	return []ModbusRegister{
		float32At("frequency", 0x0046, 1),
		float32At("energy_import", 0x0048, joulesOfKWh),
		float32At("energy_export", 0x004A, joulesOfKWh),
		float32At("energy", 0x0156, joulesOfKWh),
	}
}

func sdmSingle() []ModbusRegister {
	return append([]ModbusRegister{
		float32At("voltage", 0x0000, 1),
		float32At("current", 0x0006, 1),
		float32At("power", 0x000C, 1),
		float32At("apparent_power", 0x0012, 1),
		float32At("reactive_power", 0x0018, 1),
		float32At("power_factor", 0x001E, 1),
	}, sdmEnergy()...)
}

func sdmThree() []ModbusRegister {
	return append([]ModbusRegister{
		float32At("voltage_1", 0x0000, 1), float32At("voltage_2", 0x0002, 1), float32At("voltage_3", 0x0004, 1),
		float32At("current_1", 0x0006, 1), float32At("current_2", 0x0008, 1), float32At("current_3", 0x000A, 1),
		float32At("power_1", 0x000C, 1), float32At("power_2", 0x000E, 1), float32At("power_3", 0x0010, 1),
		float32At("power", 0x0034, 1),
	}, sdmEnergy()...)
}

// pzemRegisters are those of section 2.3 of the manual, but for the alarm. Numbers of 32 bits
// have their low word first.
var pzemRegisters = []ModbusRegister{
	{Name: "voltage", Register: 0, Function: readInput, Type: "u16", Scale: 0.1},
	{Name: "current", Register: 1, Function: readInput, Type: "u32", Words: "low", Scale: 0.001},
	{Name: "power", Register: 3, Function: readInput, Type: "u32", Words: "low", Scale: 0.1},
	{Name: "energy", Register: 5, Function: readInput, Type: "u32", Words: "low", Scale: joulesOfWh},
	{Name: "frequency", Register: 7, Function: readInput, Type: "u16", Scale: 0.1},
	{Name: "power_factor", Register: 8, Function: readInput, Type: "u16", Scale: 0.01},
}

// meterChip makes a chip of a table of registers.
func meterChip(name, title, source string, baud int, registers []ModbusRegister, gap int, most meterLimits) Chip {
	quantities := modbusQuantities(registers)
	for i := range quantities {
		quantities[i] = most.of(quantities[i])
	}
	blocks := modbusBlocks(registers, gap)
	return Chip{
		Name: name, Title: title, Source: source,
		Options:    option.Set{Defaults: ModbusPort{Baud: baud, Parity: board.ParityNone, UnitID: 1}, Rules: modbusPortRules()},
		Quantities: quantities,
		Every:      10 * time.Second,
		Worst:      time.Duration(len(blocks)) * 1500 * time.Millisecond, // at 1200 baud
		Look: func(b board.Board, c Config) error {
			return lookSerial(b, optionsOf[ModbusPort](c).serialConfig())
		},
		Open: func(b board.Board, c Config) (Sensor, error) {
			return openModbus(b, c.Chip, optionsOf[ModbusPort](c), blocks, quantities)
		},
	}
}

// of returns a quantity with the limits of a meter.
func (m meterLimits) of(q Quantity) Quantity {
	switch q.Unit {
	case "V":
		q.Min, q.Max = 0, m.volts
	case "A":
		q.Min, q.Max = 0, m.amps
	case "W", "V.A", "V.A{reactive}":
		q.Min, q.Max = -m.watts, m.watts
	case "J":
		q.Min, q.Max = 0, m.joules
	case "Hz":
		q.Min, q.Max = 0, 100
	case "1":
		q.Min, q.Max = -1, 1
	}
	return q
}
