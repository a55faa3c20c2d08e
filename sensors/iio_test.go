package sensors

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/sim"
)

// iioDevices returns a board with devices whose files are like those of the kernel
// drivers bmp280, mcp320x, ti-ads1015, hx711, scd4x, mlx90614, sps30, bh1750, dht11 and
// kxcjk-1013, with the decimals that the kernel writes.
func iioDevices(t *testing.T) *sim.Board {
	t.Helper()
	b := sim.New()
	b.SetRoot(t.TempDir())
	for n, d := range []struct {
		name, at string
		files    map[string]string
	}{
		{"bme280", "1-0076", map[string]string{"in_temp_input": "21930\n", "in_pressure_input": "100.653265625\n", "in_humidityrelative_input": "48560\n", "in_temp_oversampling_ratio": "2\n", "uevent": ""}},
		{"mcp3008", "spi0.0", map[string]string{"in_voltage0_raw": "512\n", "in_voltage1_raw": "0\n", "in_voltage0-voltage1_raw": "511\n", "in_voltage_scale": "3.222656250\n", "in_voltage-voltage_scale": "3.222656250\n"}},
		{"ads1015", "1-0048", map[string]string{"in_voltage0_raw": "-176\n", "in_voltage0_scale": "2.000000000\n", "in_voltage0-voltage1_raw": "10\n", "in_voltage0-voltage1_scale": "3.000000000\n"}},
		{"hx711", "weight", map[string]string{"in_voltage0_raw": "8513000\n", "in_voltage0_scale": "0.000149012\n", "in_voltage0_offset": "-8388608\n"}},
		{"scd40", "1-0062", map[string]string{"in_concentration_co2_raw": "500\n", "in_concentration_co2_scale": "0.000100000\n", "in_temp_raw": "26214\n", "in_temp_offset": "-16852.114285\n", "in_temp_scale": "2.670288\n", "in_humidityrelative_raw": "24249\n", "in_humidityrelative_scale": "1.525878\n"}},
		{"mlx90614", "1-005a", map[string]string{"in_temp_ambient_raw": "14740\n", "in_temp_object_raw": "14907\n", "in_temp_offset": "-13657.500000\n", "in_temp_scale": "20\n"}},
		{"sps30", "1-0069", map[string]string{"in_massconcentration_pm2p5_input": "7.300000\n", "in_massconcentration_pm10_input": "9.100000\n"}},
		{"bh1750", "1-0023", map[string]string{"in_illuminance_raw": "8390\n", "in_illuminance_scale": "3.345\n"}},
		{"kxcjk1013", "1-000e", map[string]string{"in_accel_x_raw": "-100\n", "in_accel_z_raw": "1024\n", "in_accel_scale": "0.009582\n"}},
		{"unscaled", "1-0010", map[string]string{"in_voltage0_raw": "1\n", "in_intensity_both_raw": "12\n"}},
		{"both", "1-0011", map[string]string{"in_temp_raw": "1\n", "in_temp_scale": "1\n", "in_temp_input": "20000\n"}},
		{"dht11@4", "dht11@4", map[string]string{"in_temp_input": "35100\n", "in_humidityrelative_input": "65200\n"}},
		{"labels", "2-0048", map[string]string{"in_voltage0_raw": "1000\n", "in_voltage1_raw": "2000\n", "in_voltage_scale": "1\n", "in_voltage0_label": "Battery +\n"}},
	} {
		if err := b.WriteIIO(n, d.name, d.at, d.files); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(b.Root(), "sys/bus/iio/devices/trigger0"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// The kernel's units (sysfs-bus-iio: millidegrees, kilopascal, percent of a
// concentration, millivolts) are converted to the quantities'.
func TestIIOReads(t *testing.T) {
	b := iioDevices(t)
	for _, c := range []struct {
		o    IIO
		want string
	}{
		{IIO{Device: "bme280"}, "temperature 21.93 Cel, humidity 48.56 %, pressure 100653.265625 Pa"},
		{IIO{Device: "mcp3008"}, "voltage_0 1.65 V, voltage_1 0 V, voltage_0_voltage1 1.646777 V"},
		{IIO{Device: "mcp3008", Channel: "voltage0"}, "voltage 1.65 V"},
		{IIO{Device: "ads1015"}, "voltage_0 -0.352 V, voltage_0_voltage1 0.03 V"},
		{IIO{Device: "hx711"}, "voltage 0.018536 V"},
		{IIO{Device: "scd40"}, "co2 500 [ppm], temperature 24.998931 Cel, humidity 37.001016 %"},
		{IIO{Device: "mlx90614"}, "temperature_object 24.99 Cel, temperature_ambient 21.65 Cel"},
		{IIO{Device: "mlx90614", Channel: "object"}, "temperature 24.99 Cel"},
		{IIO{Device: "sps30"}, "pm2_5 7.3 ug/m3, pm10 9.1 ug/m3"},
		{IIO{Device: "bh1750"}, "illuminance 28064.55 lx"},
		{IIO{Device: "kxcjk1013"}, "acceleration_x -0.9582 m/s2, acceleration_z 9.811968 m/s2"},
		{IIO{Device: "both"}, "temperature 20 Cel"},
		{IIO{Device: "dht11"}, "temperature 35.1 Cel, humidity 65.2 %"},
		{IIO{Device: "labels"}, "voltage_battery 1 V, voltage_1 2 V"},
		{IIO{Device: "labels", Channel: "Battery +"}, "voltage 1 V"},
	} {
		checkReads(t, b, iio, c.o, c.want)
	}
}

func TestIIORefuses(t *testing.T) {
	b := iioDevices(t)
	if err := b.WriteIIO(20, "bme280", "1-0077", map[string]string{"in_temp_input": "1\n"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o      IIO
		absent bool
		want   string
	}{
		{IIO{}, false, "device is missing"},
		{IIO{Device: "sht31"}, true, `device "sht31": not there; there are ads1015 at 1-0048`},
		{IIO{Device: "bme280"}, false, `there are 2 devices "bme280"; choose one with the key at: 1-0076, 1-0077`},
		{IIO{Device: "bme280", At: "1-0044"}, true, `"bme280 at 1-0044": not there`},
		{IIO{Device: "mcp3008", Channel: "voltage7"}, true, `channel "voltage7"`},
		{IIO{Device: "unscaled"}, false, "no channel that fieldpost knows"},
	} {
		checkRefused(t, b, iio, c.o, c.absent, c.want)
	}
}

// An impossible value is a fault, and so is another device with the same number.
func TestIIOFaults(t *testing.T) {
	for name, text := range map[string]string{"text": "hot\n", "empty": "", "outside": "-300000\n", "nan": "NaN\n", "hexadecimal": "0x10\n", "infinite": "inf\n"} {
		b := iioDevices(t)
		s, err := iio.Open(b, Config{Chip: "iio", Options: IIO{Device: "both"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.WriteIIO(10, "both", "1-0011", map[string]string{"in_temp_input": text}); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("%s: %v, %v, want a fault", name, f, err)
		}
		if err := b.WriteIIO(10, "both", "1-0012", map[string]string{"in_temp_input": "1\n"}); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), `at "1-0012" now`) {
			t.Errorf("another in its place: %v, %v", f, err)
		}
	}
}

// failing makes reads of one file of a device return these errors, one after the other,
// and then succeed.
func failing(f *files, file string, errs ...error) {
	f.text = func(path string) (string, error) {
		if filepath.Base(path) == file && len(errs) > 0 {
			err := errs[0]
			errs = errs[1:]
			if err != nil {
				return "", absent(&fs.PathError{Op: "read", Path: path, Err: err})
			}
		}
		return readKernel(path)
	}
}

// A channel without a value is left out and the others are read. A broken channel is an
// error.
func TestKernelChannelWithoutValue(t *testing.T) {
	b := devices(t)
	s, err := hwmon.Open(b, Config{Chip: "hwmon", Options: Hwmon{Device: "ina219", At: "1-0040"}})
	if err != nil {
		t.Fatal(err)
	}
	h := s.(*hwmonSensor)
	failing(h.f, "curr1_input", syscall.ENODATA)
	if f, err := s.Sense(); err != nil || fmt.Sprint(f) != "[{voltage_0 0.012} {voltage_1 11.98} {power 7.16}]" {
		t.Errorf("one without: %v, %v", f, err)
	}
	failing(h.f, "curr1_input", syscall.EREMOTEIO)
	if f, err := s.Sense(); !errors.Is(err, syscall.EREMOTEIO) || f != nil {
		t.Errorf("one that fails: %v, %v", f, err)
	}
	for _, c := range []struct {
		file string
		err  error
		want error
	}{
		{"curr1_input", syscall.EREMOTEIO, ErrSilent}, {"curr1_input", syscall.ENXIO, ErrSilent}, {"curr1_fault", syscall.ENXIO, ErrSilent},
		{"curr1_input", syscall.ENODEV, ErrAbsent}, {"curr1_input", syscall.ENOENT, ErrAbsent},
	} {
		failing(h.f, c.file, c.err)
		if f, err := s.Sense(); !errors.Is(err, c.want) || errors.Is(err, ErrSilent) != (c.want == ErrSilent) || f != nil {
			t.Errorf("%v of %s: %v, %v, want %v", c.err, c.file, f, err, c.want)
		}
	}
	h.f.text = readKernel
	if f, err := s.Sense(); err != nil || len(f) != 4 {
		t.Errorf("well again: %v, %v", f, err)
	}
	h.f.text = func(path string) (string, error) {
		if strings.HasSuffix(path, "_input") {
			return "", syscall.ENODATA
		}
		return readKernel(path)
	}
	if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "any channel") {
		t.Errorf("all without: %v, %v", f, err)
	}

	i, err := openIIO(iioDevices(t), Config{Chip: "iio"}, IIO{Device: "bme280"})
	if err != nil {
		t.Fatal(err)
	}
	failing(i.f, "in_pressure_input", syscall.ENODATA)
	if f, err := i.Sense(); err != nil || fmt.Sprint(f) != "[{temperature 21.93} {humidity 48.56}]" {
		t.Errorf("iio, one without: %v, %v", f, err)
	}
}

// Single-wire sensors fail now and then. One failed read is ignored, two are an error.
func TestIIORetries(t *testing.T) {
	s, err := openIIO(iioDevices(t), Config{Chip: "iio"}, IIO{Device: "dht11"})
	if err != nil {
		t.Fatal(err)
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ETIMEDOUT} {
		failing(s.f, "in_temp_input", errno)
		if f, err := s.Sense(); err != nil || len(f) != 2 {
			t.Errorf("%v once: %v, %v", errno, f, err)
		}
		failing(s.f, "in_temp_input", errno, errno)
		if f, err := s.Sense(); !errors.Is(err, errno) || f != nil {
			t.Errorf("%v twice: %v, %v", errno, f, err)
		}
	}
}

// After a pause a DHT22 returns a measurement from before it, so it is read twice.
func TestDHTIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := iioDevices(t)
		s, err := dht22.Open(b, Config{Chip: "dht22", Options: DHT{}})
		if err != nil {
			t.Fatal(err)
		}
		measured, given, at := 1, 0, time.Now().Add(-time.Hour)
		s.(*dhtSensor).f.text = func(path string) (string, error) {
			if filepath.Base(path) != "in_temp_input" {
				return readKernel(path)
			}
			if time.Since(at) > 2*time.Second { // like the kernel's driver
				given, at = measured, time.Now()
				measured = 30
			}
			return fmt.Sprintf("%d000", given), nil
		}
		for range 2 {
			if f, err := s.Sense(); err != nil || f[0] != (Field{"temperature", 30.0}) {
				t.Errorf("%v, %v, want what is now", f, err)
			}
			measured = 1
			<-time.After(time.Minute)
		}
	})
}

// Without a kernel driver, the error names the line of config.txt that loads it.
func TestOverlayHints(t *testing.T) {
	b := sim.New()
	b.SetRoot(t.TempDir())
	for _, c := range []struct {
		chip    Chip
		options any
		want    string
	}{
		{dht11, DHT{}, "dtoverlay=dht11,gpiopin=17"}, {dht22, DHT{}, "dtoverlay=dht11,gpiopin=17"}, {ds18b20, DS18B20{}, "dtoverlay=w1-gpio,gpiopin=4"},
	} {
		cfg := Config{Chip: c.chip.Name, Options: c.options}
		_, err := c.chip.Open(b, cfg)
		for verb, err := range map[string]error{"open": err, "look": c.chip.Look(b, cfg)} {
			if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: %v", c.chip.Name, verb, err)
			}
		}
	}
}

func FuzzIIO(f *testing.F) {
	for _, name := range []string{"in_temp_raw", "in_voltage0-voltage1_raw", "in_concentration_co2_input", "in_accel_x_raw", "in_velocity_sqrt(x^2+y^2+z^2)_input", "out_voltage0_raw", "in__raw"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if c, ok := iioChannelOf(name); ok && (c.kind < 0 || !strings.HasPrefix(name, c.stem) || len(c.shared) == 0) {
			t.Errorf("%q: %+v", name, c)
		}
	})
}

// The hot end of a thermocouple has neither a number nor a label, the cold end has a label.
func TestIIOChannelWithoutNumber(t *testing.T) {
	b := sim.New()
	b.SetRoot(t.TempDir())
	if err := b.WriteIIO(0, "maxim_thermocouple", "spi0.0", map[string]string{
		"in_temp_raw": "403", "in_temp_scale": "250", "in_temp_ambient_raw": "401", "in_temp_ambient_scale": "62.5",
	}); err != nil {
		t.Fatal(err)
	}
	s, err := iio.Open(b, Config{Chip: "iio", Options: IIO{Device: "maxim_thermocouple"}})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.Sense(); err != nil || fmt.Sprint(f) != "[{temperature 100.75} {temperature_ambient 25.0625}]" {
		t.Errorf("%v, %v", f, err)
	}
}
