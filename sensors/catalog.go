package sensors

// Catalog lists the chips that fieldpost knows, by name.
func Catalog() []Chip {
	return []Chip{
		ads1015,
		ads1115,
		aht10,
		aht20,
		bh1750,
		bme280,
		bme680,
		bmp180,
		bmp280,
		bmp388,
		bmp390,
		counterLine,
		dht11,
		dht22,
		ds18b20,
		ezoDO,
		ezoEC,
		ezoORP,
		ezoPH,
		ezoRTD,
		frequencyLine,
		gpioLine,
		hdc302x,
		htu21d,
		hwmon,
		iio,
		ina219,
		ina226,
		ina260,
		ina3221,
		lm75,
		lm75b,
		max31855,
		max31865,
		max6675,
		mcp3008,
		mcp3208,
		mcp9808,
		mhz19,
		mlx90614,
		modbus,
		pct2075,
		pms5003,
		pzem004,
		scd30,
		scd4x,
		sdm120,
		sdm230,
		sdm630,
		sds011,
		sgp30,
		sgp40,
		sgp41,
		sht21,
		sht3x,
		sht4x,
		shtc3,
		si7021,
		sps30,
		thermal,
		tmp102,
		tmp117,
		tsl2561,
		tsl2591,
		ultrasonic,
		veml7700,
	}
}

// Lookup returns the chip of that name from the catalog.
func Lookup(name string) (Chip, bool) {
	for _, c := range Catalog() {
		if c.Name == name {
			return c, true
		}
	}
	return Chip{}, false
}
