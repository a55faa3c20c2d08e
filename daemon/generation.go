package daemon

import (
	"slices"
	"time"

	"fieldpost/daemon/command"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/sampler"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/uplink/mqtt5"
	"fieldpost/sensors"
)

// generation is what lives as long as a configuration: the configuration itself, and
// what the parts of the daemon are told of it. It does not change; [Daemon.Swap] puts
// another one in its place.
type generation struct {
	config   *config.Config
	subjects []health.Subject        // what faults can be about by name
	files    *uplink.CredentialFiles // of the paths that stand in the configuration
	link     uplink.Config           // where to connect, as whom and for what
	session  []string                // the filters that the broker's session holds
}

// newGeneration makes the generation of a configuration. What of it does not differ
// from the one before is that one's; before is nil at the start.
func (p *process) newGeneration(cfg *config.Config, before *generation) *generation {
	g := &generation{config: cfg, subjects: subjects(cfg)}
	files := uplink.CredentialFilesConfig{
		CA: cfg.Broker.CA, Certificate: cfg.Broker.Certificate, Key: cfg.Broker.Key, Password: cfg.Broker.PasswordFile, Read: p.o.ReadFile, Stuck: p.filesStuck,
		Provisioned: cfg.Broker.Provisioning.Enabled(),
	}
	if before != nil && before.config.Broker.CA == files.CA && before.config.Broker.Certificate == files.Certificate && before.config.Broker.Key == files.Key && before.config.Broker.PasswordFile == files.Password {
		g.files = before.files
	} else {
		g.files = uplink.NewCredentialFiles(files)
	}
	g.link = p.linkConfig(g)
	g.session = heldFilters(g.link)
	return g
}

// linkConfig is what the link is told of a generation, but for what the broker's
// session still holds of earlier ones.
func (p *process) linkConfig(g *generation) uplink.Config {
	cfg := g.config
	c := uplink.Config{
		Endpoint: cfg.Endpoint(), ClientID: cfg.Broker.ClientID,
		Files: g.files, KeepAlive: cfg.Broker.KeepAlive,
		Access:     uplink.Access{Username: cfg.Broker.Username, PasswordFile: cfg.Broker.PasswordFile, Proxy: cfg.Broker.Proxy, ALPN: cfg.Broker.ALPN},
		Limits:     uplink.Limits(cfg.Broker.Limits),
		Flow:       uplink.Flow{AckDelay: ackDelay(cfg.Spool.AtRisk)},
		MaxPayload: command.MaxOrder, Outbox: p.box, Heartbeat: p.linkBeat.Beat, HeartbeatWait: p.linkBeat.Wait, Log: p.log, Ask: mqtt5.Ask,
		Farewell: func() uplink.Publication {
			r := message.Farewell(p.spool.RunNumber(), p.o.Clock.Now(), p.spool.Source(), p.farewellReason())
			return uplink.Publication{Topic: cfg.ReadingsTopic(""), Payload: message.Encode(cfg.Thing, r)}
		},
	}
	if cfg.Broker.Will != "none" {
		// It carries no time: it is written long before it is sent.
		c.Will = &uplink.Publication{Topic: cfg.ReadingsTopic(""), Payload: message.Encode(cfg.Thing, message.Will())}
	}
	if cfg.Broker.Verify != "none" {
		c.Echo = uplink.Echo{Topic: cfg.ReadingsTopic(""), Subscribe: cfg.Broker.Verify == "subscribe"}
	}
	if t := g.ordersTopic(); t != "" {
		c.Subscriptions = []uplink.Subscription{{Filter: t, QoS: 1}}
		if g.unstamped() {
			// Nothing may lie with the broker that acts when we come back: not
			// from an earlier session, nor where it stores QoS 0 too.
			c.Subscriptions[0].QoS, c.Clean = 0, true
		}
	}
	return c
}

// ackDelay is how late the spool may be told of an acknowledgement. What lingers, is sent
// and is told so late has still not waited long enough to be written to disk: for a second,
// or a quarter of atRisk.
func ackDelay(atRisk time.Duration) time.Duration {
	return min(250*time.Millisecond, atRisk/16)
}

// heldFilters gives the filters that the broker's session holds of a link.
func heldFilters(c uplink.Config) (filters []string) {
	if c.Clean {
		return nil
	}
	for _, s := range c.Subscriptions {
		filters = append(filters, s.Filter)
	}
	if c.Echo.Subscribe && !slices.Contains(filters, c.Echo.Topic) {
		filters = append(filters, c.Echo.Topic) // where a connection ends before it is taken back
	}
	return filters
}

// ordersTopic is the topic on which orders come by MQTT, "" where none do: without
// outputs there is nothing to order.
func (g *generation) ordersTopic() string {
	if len(g.config.Outputs) == 0 {
		return ""
	}
	return g.config.CommandsTopic()
}

// orders is what the dispatcher is told of a generation.
func (g *generation) orders() command.Settings {
	return command.Settings{Thing: g.config.Thing, Topic: g.ordersTopic(), MaxLife: g.config.Commands.MaxLife, Unstamped: g.unstamped()}
}

// unstamped reports whether orders may go without id and expires.
func (g *generation) unstamped() bool { return g.config.Commands.Unstamped == "accept" }

// subjects gives what faults may be raised about by name: the sensors and outputs.
func subjects(cfg *config.Config) (all []health.Subject) {
	for _, s := range cfg.Sensors {
		all = append(all, health.Subject{Name: s.Name, Kind: health.Sensor, Place: sampler.PlaceOf(s), On: s.Place().Shared()})
	}
	for _, o := range cfg.Outputs {
		all = append(all, health.Subject{Name: o.Name, Kind: health.Output, Place: health.OnLine})
	}
	return all
}

func sensorNames(all []sensors.Config) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Name)
	}
	return out
}
