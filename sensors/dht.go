package sensors

import (
	"errors"
	"fmt"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Aosong's DHT11 and DHT22 (AM2302), through the kernel's driver dht11, which
// distinguishes them by their data. Their bits last some ten microseconds and cannot be
// told apart reliably by a program.
//
// Sources: Aosong, AM2302 product manual (English, undated), section 7.3: a read returns
// the result of the measurement before, so after a long pause only the second of two
// reads, two seconds apart, is current; DHT11 product manual, version 1.3. Linux,
// drivers/iio/humidity/dht11.c: EIO if the checksum or the number of bits is wrong,
// ETIMEDOUT if edges are missing, and the same value again for two seconds after a read.

// DHT are the keys of a DHT11 or DHT22.
type DHT struct {
	// At is the sensor's name in the kernel, if there are several: dht11@4.
	At string `yaml:"at"`
}

// Place returns the kernel's device.
func (o DHT) Place() Place { return Place{Device: dhtDevice} }

const (
	dhtDevice = "dht11" // the driver's, for both
	// dhtPause is the time between two reads: the driver's DHT11_DATA_VALID_TIME and a
	// little more.
	dhtPause = 2100 * time.Millisecond
	// dhtOld is the age at which a measurement is no longer current.
	dhtOld = 5 * time.Second
)

var dhtOptions = option.Set{
	Defaults: DHT{},
	Rules:    map[string]option.Rule{"at": {Wants: "a device of the kernel's such as dht11@4", Check: kernelName}},
}

var dht11 = dhtChip("dht11", "Aosong DHT11: temperature and humidity, on a GPIO, by the kernel's driver",
	"Aosong, DHT11 product manual, version 1.3",
	Quantity{Name: "temperature", Unit: "Cel", Min: -20, Max: 60}, Quantity{Name: "humidity", Unit: "%", Min: 0, Max: 100})

var dht22 = dhtChip("dht22", "Aosong DHT22 (AM2302): temperature and humidity, on a GPIO, by the kernel's driver",
	"Aosong, AM2302 product manual",
	Quantity{Name: "temperature", Unit: "Cel", Min: -40, Max: 80}, Quantity{Name: "humidity", Unit: "%", Min: 0, Max: 100})

func dhtChip(name, title, source string, quantities ...Quantity) Chip {
	return Chip{
		Name: name, Title: title, Source: source, Options: dhtOptions, Quantities: quantities,
		Every: 30 * time.Second,
		Worst: 10 * time.Second, // the pause, and four reads that time out after a second each, each tried twice
		Look: func(b board.Board, c Config) error {
			_, err := iioClass.find(b, dhtDevice, optionsOf[DHT](c).At)
			return dhtHint(err)
		},
		Open: func(b board.Board, c Config) (Sensor, error) {
			s, err := openIIO(b, c, IIO{Device: dhtDevice, At: optionsOf[DHT](c).At})
			if err != nil {
				return nil, dhtHint(err)
			}
			if len(s.channels) != len(quantities) || s.quantities[0].Name != quantities[0].Name || s.quantities[1].Name != quantities[1].Name {
				return nil, errors.Join(s.f.wrap("open", faultf("the device does not have exactly one temperature and one humidity")), s.f.close())
			}
			s.quantities = quantities
			return &dhtSensor{iioSensor: s}, nil
		},
	}
}

// dhtHint adds to an [ErrAbsent] how to load the driver.
func dhtHint(err error) error {
	if errors.Is(err, ErrAbsent) {
		return fmt.Errorf("%w; on a Raspberry Pi dtoverlay=dht11,gpiopin=17 in config.txt, with the GPIO that its data pin is on, and a restart load the driver", err)
	}
	return err
}

// dhtSensor is an open DHT11 or DHT22.
type dhtSensor struct {
	*iioSensor
	last time.Time // when it measured
}

// Sense reads the sensor, twice if its last measurement is old. It blocks the sensor's
// thread, but no bus.
func (s *dhtSensor) Sense() ([]Field, error) {
	if time.Since(s.last) > dhtOld {
		if _, err := s.iioSensor.Sense(); err != nil {
			return nil, err
		}
		s.f.pause(dhtPause)
	}
	fields, err := s.iioSensor.Sense()
	if err == nil {
		s.last = time.Now()
	}
	return fields, err
}
