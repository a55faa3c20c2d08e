package sim

import "slices"

// named adds chips by their names in the catalog, at the addresses that the simulated
// chip supports; nil means all of the chip's addresses.
var named = map[string]struct {
	addresses []uint16
	add       func(b *Bus, addr uint16)
}{
	"ads1015":  {nil, func(b *Bus, a uint16) { AddADS1015(b, a) }},
	"ads1115":  {nil, func(b *Bus, a uint16) { AddADS1115(b, a) }},
	"aht10":    {[]uint16{0x38}, func(b *Bus, _ uint16) { AddAHT10(b) }},
	"aht20":    {nil, func(b *Bus, _ uint16) { AddAHT20(b) }},
	"bh1750":   {nil, func(b *Bus, a uint16) { AddBH1750(b, a) }},
	"bme280":   {nil, func(b *Bus, a uint16) { b.AddBME280(a) }},
	"bme680":   {nil, func(b *Bus, a uint16) { AddBME680(b, a) }},
	"bmp180":   {nil, func(b *Bus, _ uint16) { AddBMP180(b) }},
	"bmp280":   {nil, func(b *Bus, a uint16) { b.AddBMP280(a) }},
	"bmp388":   {nil, func(b *Bus, a uint16) { AddBMP388(b, a) }},
	"bmp390":   {nil, func(b *Bus, a uint16) { AddBMP390(b, a) }},
	"ezodo":    {nil, func(b *Bus, a uint16) { AddEZO(b, "D.O.", a) }},
	"ezoec":    {nil, func(b *Bus, a uint16) { AddEZO(b, "EC", a) }},
	"ezoorp":   {nil, func(b *Bus, a uint16) { AddEZO(b, "ORP", a) }},
	"ezoph":    {nil, func(b *Bus, a uint16) { AddEZO(b, "pH", a) }},
	"ezortd":   {nil, func(b *Bus, a uint16) { AddEZO(b, "RTD", a) }},
	"hdc302x":  {nil, func(b *Bus, a uint16) { AddHDC302x(b, a) }},
	"htu21d":   {nil, func(b *Bus, _ uint16) { AddHTU21D(b) }},
	"ina219":   {nil, func(b *Bus, a uint16) { AddINA219(b, a) }},
	"ina226":   {nil, func(b *Bus, a uint16) { AddINA226(b, a) }},
	"ina260":   {nil, func(b *Bus, a uint16) { AddINA260(b, a) }},
	"ina3221":  {nil, func(b *Bus, a uint16) { AddINA3221(b, a) }},
	"lm75":     {nil, func(b *Bus, a uint16) { b.AddLM75(a, 9) }},
	"lm75b":    {nil, func(b *Bus, a uint16) { b.AddLM75(a, 11) }},
	"mcp9808":  {nil, func(b *Bus, a uint16) { AddMCP9808(b, a) }},
	"mlx90614": {nil, func(b *Bus, a uint16) { AddMLX90614(b, a) }},
	"pct2075":  {nil, func(b *Bus, a uint16) { b.AddLM75(a, 11) }},
	"scd30":    {nil, func(b *Bus, _ uint16) { AddSCD30(b) }},
	"scd4x":    {nil, func(b *Bus, _ uint16) { AddSCD4x(b) }},
	"sgp30":    {nil, func(b *Bus, _ uint16) { AddSGP30(b) }},
	"sgp40":    {nil, func(b *Bus, _ uint16) { AddSGP40(b) }},
	"sgp41":    {nil, func(b *Bus, _ uint16) { AddSGP41(b) }},
	"sht21":    {nil, func(b *Bus, _ uint16) { AddHTU21D(b) }},
	"sht3x":    {nil, func(b *Bus, a uint16) { AddSHT3x(b, a) }},
	"sht4x":    {nil, func(b *Bus, a uint16) { AddSHT4x(b, a) }},
	"shtc3":    {nil, func(b *Bus, _ uint16) { AddSHTC3(b) }},
	"si7021":   {nil, func(b *Bus, _ uint16) { AddSi7021(b) }},
	"sps30":    {nil, func(b *Bus, _ uint16) { AddSPS30(b) }},
	"tmp102":   {nil, func(b *Bus, a uint16) { b.AddTMP102(a) }},
	"tmp117":   {nil, func(b *Bus, a uint16) { AddTMP117(b, a) }},
	"tsl2561":  {nil, func(b *Bus, a uint16) { AddTSL2561(b, a) }},
	"tsl2591":  {nil, func(b *Bus, _ uint16) { AddTSL2591(b) }},
	"veml7700": {[]uint16{0x10}, func(b *Bus, _ uint16) { AddVEML7700(b) }},
}

// AddChip adds a chip by its name in the catalog, at one of the chip's addresses. It reports
// whether there is a simulated chip of that name for that address.
func (b *Bus) AddChip(name string, addr uint16) bool {
	n, ok := named[name]
	if !ok || n.addresses != nil && !slices.Contains(n.addresses, addr) {
		return false
	}
	n.add(b, addr)
	return true
}
