package sim

import "slices"

// named adds chips by their names in the catalog, at the addresses that the simulated
// chip supports; nil means all of the chip's addresses.
var named = map[string]struct {
	addresses []uint16
	add       func(b *Bus, addr uint16) any
}{
	"ads1015":  {nil, func(b *Bus, a uint16) any { return AddADS1015(b, a) }},
	"ads1115":  {nil, func(b *Bus, a uint16) any { return AddADS1115(b, a) }},
	"aht10":    {[]uint16{0x38}, func(b *Bus, _ uint16) any { return AddAHT10(b) }},
	"aht20":    {nil, func(b *Bus, _ uint16) any { return AddAHT20(b) }},
	"bh1750":   {nil, func(b *Bus, a uint16) any { return AddBH1750(b, a) }},
	"bme280":   {nil, func(b *Bus, a uint16) any { return b.AddBME280(a) }},
	"bme680":   {nil, func(b *Bus, a uint16) any { return AddBME680(b, a) }},
	"bmp180":   {nil, func(b *Bus, _ uint16) any { return AddBMP180(b) }},
	"bmp280":   {nil, func(b *Bus, a uint16) any { return b.AddBMP280(a) }},
	"bmp388":   {nil, func(b *Bus, a uint16) any { return AddBMP388(b, a) }},
	"bmp390":   {nil, func(b *Bus, a uint16) any { return AddBMP390(b, a) }},
	"ezodo":    {nil, func(b *Bus, a uint16) any { return AddEZO(b, "D.O.", a) }},
	"ezoec":    {nil, func(b *Bus, a uint16) any { return AddEZO(b, "EC", a) }},
	"ezoorp":   {nil, func(b *Bus, a uint16) any { return AddEZO(b, "ORP", a) }},
	"ezoph":    {nil, func(b *Bus, a uint16) any { return AddEZO(b, "pH", a) }},
	"ezortd":   {nil, func(b *Bus, a uint16) any { return AddEZO(b, "RTD", a) }},
	"hdc302x":  {nil, func(b *Bus, a uint16) any { return AddHDC302x(b, a) }},
	"htu21d":   {nil, func(b *Bus, _ uint16) any { return AddHTU21D(b) }},
	"ina219":   {nil, func(b *Bus, a uint16) any { return AddINA219(b, a) }},
	"ina226":   {nil, func(b *Bus, a uint16) any { return AddINA226(b, a) }},
	"ina260":   {nil, func(b *Bus, a uint16) any { return AddINA260(b, a) }},
	"ina3221":  {nil, func(b *Bus, a uint16) any { return AddINA3221(b, a) }},
	"lm75":     {nil, func(b *Bus, a uint16) any { return b.AddLM75(a, 9) }},
	"lm75b":    {nil, func(b *Bus, a uint16) any { return b.AddLM75(a, 11) }},
	"mcp9808":  {nil, func(b *Bus, a uint16) any { return AddMCP9808(b, a) }},
	"mlx90614": {nil, func(b *Bus, a uint16) any { return AddMLX90614(b, a) }},
	"pct2075":  {nil, func(b *Bus, a uint16) any { return b.AddLM75(a, 11) }},
	"scd30":    {nil, func(b *Bus, _ uint16) any { return AddSCD30(b) }},
	"scd4x":    {nil, func(b *Bus, _ uint16) any { return AddSCD4x(b) }},
	"sgp30":    {nil, func(b *Bus, _ uint16) any { return AddSGP30(b) }},
	"sgp40":    {nil, func(b *Bus, _ uint16) any { return AddSGP40(b) }},
	"sgp41":    {nil, func(b *Bus, _ uint16) any { return AddSGP41(b) }},
	"sht21":    {nil, func(b *Bus, _ uint16) any { return AddHTU21D(b) }},
	"sht3x":    {nil, func(b *Bus, a uint16) any { return AddSHT3x(b, a) }},
	"sht4x":    {nil, func(b *Bus, a uint16) any { return AddSHT4x(b, a) }},
	"shtc3":    {nil, func(b *Bus, _ uint16) any { return AddSHTC3(b) }},
	"si7021":   {nil, func(b *Bus, _ uint16) any { return AddSi7021(b) }},
	"sps30":    {nil, func(b *Bus, _ uint16) any { return AddSPS30(b) }},
	"tmp102":   {nil, func(b *Bus, a uint16) any { return b.AddTMP102(a) }},
	"tmp117":   {nil, func(b *Bus, a uint16) any { return AddTMP117(b, a) }},
	"tsl2561":  {nil, func(b *Bus, a uint16) any { return AddTSL2561(b, a) }},
	"tsl2591":  {nil, func(b *Bus, _ uint16) any { return AddTSL2591(b) }},
	"veml7700": {[]uint16{0x10}, func(b *Bus, _ uint16) any { return AddVEML7700(b) }},
}

// AddChip adds a chip by its name in the catalog, at one of the chip's addresses. It reports
// whether there is a simulated chip of that name for that address.
func (b *Bus) AddChip(name string, addr uint16) bool { return b.AddNamed(name, addr) != nil }

// AddNamed is like AddChip, and returns the chip, such as a [*BME280]; nil if there is none of
// that name for that address.
func (b *Bus) AddNamed(name string, addr uint16) any {
	n, ok := named[name]
	if !ok || n.addresses != nil && !slices.Contains(n.addresses, addr) {
		return nil
	}
	return n.add(b, addr)
}
