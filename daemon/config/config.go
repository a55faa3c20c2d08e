package config

import (
	"time"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/output"
	"fieldpost/sensors"
)

// Config is a complete configuration: checked, with defaults filled in and absolute paths.
type Config struct {
	// Thing names this board in every message. It is the MQTT client id unless
	// broker.client_id is set. In the file it may contain {serial}, the board's serial number.
	Thing string `yaml:"thing"`
	// Broker is the broker that messages go to.
	Broker Broker `yaml:"broker"`
	// Readings says how readings are published.
	Readings Readings `yaml:"readings"`
	// Commands says where orders come from and answers go.
	Commands Commands `yaml:"commands"`
	// Spool says how messages are kept until they are delivered.
	Spool Spool `yaml:"spool"`
	// History says which past readings are kept on this board, for plots and exports.
	History History `yaml:"history"`
	// Local says what is served in addition to the unix socket.
	Local Local `yaml:"local"`
	// Sensors are the sensors to read.
	Sensors []sensors.Config `yaml:"sensors"`
	// Outputs are the pins that orders may switch.
	Outputs []output.Config `yaml:"outputs"`

	// File is the path that the configuration was read from, as given.
	File string `yaml:"-"`

	lines map[string]int // of the keys outside of lists, by path
}

// Broker is the MQTT broker, and our identity there.
type Broker struct {
	// Endpoint is host or host:port; the default port is 8883, and 443 uses ALPN.
	Endpoint string `yaml:"endpoint"`
	// ClientID is the MQTT client id; default: the thing's name.
	ClientID string `yaml:"client_id"`
	// CA is the PEM file with the roots that may sign the broker's certificate.
	CA string `yaml:"ca"`
	// Certificate is the PEM file of our certificate; none: a user name takes its place.
	//
	// After loading, Certificate and Key are "" then.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of our private key.
	Key string `yaml:"key"`
	// Username is the MQTT user name, for a broker that wants one; AWS IoT Core does not.
	Username string `yaml:"username"`
	// PasswordFile is the file with the password of Username, on one line.
	PasswordFile string `yaml:"password_file"`
	// Proxy is the HTTP proxy to connect through: http://[user:password@]host[:port]. Default:
	// that of HTTPS_PROXY and NO_PROXY in the environment; none: no proxy.
	Proxy string `yaml:"proxy"`
	// ALPN is the protocol name to offer in the TLS handshake. Default: x-amzn-mqtt-ca on
	// port 443, which AWS IoT Core wants, otherwise none; none: none.
	ALPN string `yaml:"alpn"`
	// KeepAlive is the MQTT keep-alive, 30s to 1200s on AWS IoT Core.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// Limits says when the rates of AWS IoT Core are kept: auto, if the endpoint's name is
	// one of AWS or the broker drops messages above them; aws, always; none, never.
	Limits string `yaml:"limits"`
	// Will is offline, which the broker publishes when it loses us, or none, for a broker
	// that does not accept a will.
	Will string `yaml:"will"`
	// Verify says when to check, by a message of our own, that the broker delivers what it
	// acknowledges: auto, if orders come on the same topic; subscribe, always except with
	// AWS IoT Core's limits; none, never.
	Verify string `yaml:"verify"`
	// Provisioning gets the certificate from AWS IoT, and renews it. Without a template it
	// does not.
	Provisioning Provisioning `yaml:"provisioning"`
}

// Provisioning is fleet provisioning by claim. The certificate and the key are then in a file
// of the daemon's own, and Broker.Certificate and Broker.Key both name that file.
type Provisioning struct {
	// Template is the provisioning template.
	Template string `yaml:"template"`
	// ClaimCertificate is the PEM file of the claim certificate. It need not exist once the
	// board has a certificate of its own.
	ClaimCertificate string `yaml:"claim_certificate"`
	// ClaimKey is the PEM file of the claim certificate's key.
	ClaimKey string `yaml:"claim_key"`
	// ClientID is the MQTT client id of the short connections for provisioning; default: the
	// thing's name and "-provision".
	ClientID string `yaml:"client_id"`
	// RenewTemplate is the template for renewals; default: Template.
	RenewTemplate string `yaml:"renew_template"`
	// RenewBefore is how long before its expiry the certificate is renewed.
	RenewBefore time.Duration `yaml:"renew_before"`
	// Parameters are the parameters of the template. In the file a value may contain {thing}
	// and {serial}.
	Parameters map[string]string `yaml:"parameters"`
}

// Enabled reports whether the certificate comes by provisioning.
func (p Provisioning) Enabled() bool { return p.Template != "" }

// Readings says how readings are published.
type Readings struct {
	// Topic is the topic of readings, faults and gaps. It may contain {thing} and {sensor},
	// and with {sensor} also {quantity}: then each value is sent as plain text.
	Topic string `yaml:"topic"`
	// Linger is how long a reading may wait for others that are taken at about the same
	// time, so that they are sent in one write. 0: not at all. The changes of an input, and
	// all other messages, do not wait. At most an eighth of spool.at_risk, and batch.within
	// if there are batches; the default is shorter where these are.
	Linger time.Duration `yaml:"linger"`
	// Batch sends several readings in one message.
	Batch Batch `yaml:"batch"`
}

// Batch says how many readings go into one message. With batches every message with
// readings is an array, even of one reading. All other messages stay objects.
type Batch struct {
	// Max is the largest number of readings in a message. 0: no batches.
	Max int `yaml:"max"`
	// Within is how long a reading may wait for others. If that is more than about a second,
	// the reading is written to disk meanwhile.
	Within time.Duration `yaml:"within"`
}

// Commands says where orders come from and answers go.
type Commands struct {
	// Topic is the topic of orders. It may contain {thing}. Empty: no orders over MQTT.
	Topic string `yaml:"topic"`
	// Answers is the topic of answers and of the events of outputs. It may contain {thing}.
	Answers string `yaml:"answers"`
	// MaxLife is how far in the future an order's expiry may be.
	MaxLife time.Duration `yaml:"max_life"`
	// Unstamped says what happens to orders without id or expires for a level other than the
	// safe one: refuse, or accept. With accept the subscription is at QoS 0 in a clean
	// session, so that the broker stores no orders at all while this board is away.
	Unstamped string `yaml:"unstamped"`
}

// Spool says how messages are kept until they are delivered.
type Spool struct {
	// Dir is the directory of the spool and the daemon's journals.
	Dir string `yaml:"dir"`
	// AtRisk bounds the unacknowledged readings that a power cut may cost, as a time. 0:
	// each reading is on disk before it is sent.
	AtRisk time.Duration `yaml:"at_risk"`
	// MaxBytes bounds the spool on disk.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge bounds the age of messages.
	MaxAge time.Duration `yaml:"max_age"`
}

// History says which past readings are kept on this board, for plots and exports. They are
// thinned: points of 10 seconds for an hour, of 10 minutes for a day, of 30 minutes for a week,
// each with the mean, the least and the greatest value.
type History struct {
	// Keep says where: disk, in the spool's directory, with at most 100 KB written a day;
	// memory, until the daemon ends; none, nowhere.
	Keep string `yaml:"keep"`
	// Quantities is the most quantities of all sensors that are kept. Each takes 13.4 KB of
	// memory.
	Quantities int `yaml:"quantities"`
}

// Local says what is served in addition to the unix socket.
type Local struct {
	// Metrics is the address and port at which GET /metrics is answered over HTTP, for
	// Prometheus and others: 127.0.0.1:9108. Default: none; /metrics is on the unix socket in
	// any case.
	Metrics string `yaml:"metrics"`
	// Listen is the address and port of the web page: 127.0.0.1:8080. Default: none. On a
	// loopback address whoever is on this machine may look.
	Listen string `yaml:"listen"`
	// TokenFile is the file with the token that a browser has to show, on one line, of 16
	// characters or more: once, and then for 30 days it may give orders, and look from other
	// machines. `fieldpost page` prints the URL with it. Without a token nobody may give orders
	// on the page.
	TokenFile string `yaml:"token_file"`
	// Hosts are the names and addresses by which other machines may ask: what stands in the
	// URL. They must be given if the address of metrics or listen is not a loopback address.
	Hosts []string `yaml:"hosts"`
}

// Endpoint returns the broker's address as host:port, with the default port if none is
// given.
func (c *Config) Endpoint() string {
	e, err := endpoint.Parse(c.Broker.Endpoint)
	if err != nil {
		return c.Broker.Endpoint // not from Load; dialling it will fail
	}
	return e.String()
}
