package config

import (
	"time"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/output"
	"fieldpost/sensors"
)

// Config is a configuration file, complete: defaults filled in, relative paths
// made absolute, checked.
type Config struct {
	// Thing names this board in every message. It is the MQTT client id unless
	// broker.client_id is set.
	Thing string `yaml:"thing"`
	// Broker is where mail goes.
	Broker Broker `yaml:"broker"`
	// Readings says how readings are published.
	Readings Readings `yaml:"readings"`
	// Commands says where orders come from and answers go.
	Commands Commands `yaml:"commands"`
	// Spool bounds what is kept while the broker is away.
	Spool Spool `yaml:"spool"`
	// Sensors are the sensors to read.
	Sensors []sensors.Config `yaml:"sensors"`
	// Outputs are the pins that orders may move.
	Outputs []output.Config `yaml:"outputs"`

	// File is the path it was read from, as given.
	File string `yaml:"-"`
}

// Broker is the MQTT broker and who we are to it.
type Broker struct {
	// Endpoint is host or host:port; 8883 unless given, 443 uses ALPN.
	Endpoint string `yaml:"endpoint"`
	// ClientID is the MQTT client id; the thing's name unless given.
	ClientID string `yaml:"client_id"`
	// CA is the PEM file of the roots that may have signed the broker's certificate.
	CA string `yaml:"ca"`
	// Certificate is the PEM file of our certificate.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of our private key.
	Key string `yaml:"key"`
	// KeepAlive is the MQTT keep-alive, 30s to 1200s on AWS IoT Core.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// Limits says whose rates are kept: auto, AWS IoT Core's where the broker has
	// its name or drops what exceeds them; aws, AWS IoT Core's; none.
	Limits string `yaml:"limits"`
	// Will is offline, what the broker is to publish when it loses us, or none, where
	// it does not take a will.
	Will string `yaml:"will"`
	// Verify says whether to listen for a message of our own, to know that the broker
	// delivers what it acknowledges: auto, where orders come on the same topic;
	// subscribe, in any case but with AWS IoT Core's limits; none.
	Verify string `yaml:"verify"`
}

// Readings says how readings are published.
type Readings struct {
	// Topic is the topic of readings, faults and gaps; {thing} and {sensor} may stand in it,
	// and with {sensor} {quantity}: then each quantity is sent there as a plain value.
	Topic string `yaml:"topic"`
	// Batch sends readings several to a message.
	Batch Batch `yaml:"batch"`
}

// Batch says how many readings go into one message. With it every message
// that carries readings is an array, even of one; all others stay objects.
type Batch struct {
	// Max is the most readings in a message; none: a message for each, as an object.
	Max int `yaml:"max"`
	// Within is how long a reading may wait for others to go with it. More than
	// about a second has it written to disk meanwhile.
	Within time.Duration `yaml:"within"`
}

// Commands says where orders come from and answers go.
type Commands struct {
	// Topic is subscribed to for orders; {thing} may stand in it. None: no orders by MQTT.
	Topic string `yaml:"topic"`
	// Answers is the topic of answers and of the events of outputs; {thing} may stand in it.
	Answers string `yaml:"answers"`
	// MaxLife is how far ahead an order's expiry may lie.
	MaxLife time.Duration `yaml:"max_life"`
	// Unstamped says what becomes of orders without id or expires that ask for
	// another level than the safe one: refuse, or accept. With accept, orders
	// are subscribed to at QoS 0 in a clean session, so that the broker stores
	// none while this board is away, whether stamped or not.
	Unstamped string `yaml:"unstamped"`
}

// Spool bounds what is kept while the broker is away.
type Spool struct {
	// Dir is where the spool and the daemon's state are.
	Dir string `yaml:"dir"`
	// AtRisk is the most time's worth of unacknowledged readings that a power
	// cut may cost; 0 has each on disk before it is sent.
	AtRisk time.Duration `yaml:"at_risk"`
	// MaxBytes bounds the spool on disk.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge bounds how old mail may become.
	MaxAge time.Duration `yaml:"max_age"`
}

// Endpoint returns the broker as host:port, with the port that is meant where
// none is written.
func (c *Config) Endpoint() string {
	e, err := endpoint.Parse(c.Broker.Endpoint)
	if err != nil {
		return c.Broker.Endpoint // not from Load; whoever dials it will say so
	}
	return e.String()
}
