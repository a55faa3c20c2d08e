package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/topic"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
)

// attempt says how one connection is made.
type attempt struct {
	will, clean           bool
	repeated, withoutWill bool
	minTLS, maxTLS        uint16
}

// ordinary returns the connection as the daemon makes it, under the client id of the report.
func (e *exam) ordinary() attempt {
	return attempt{will: e.cfg.Broker.Will != "none" && !e.withoutWill, clean: e.clean || !e.report.OwnID}
}

// probe makes a connection, not yet opened.
func (e *exam) probe(a attempt) (*uplink.Probe, error) { return uplink.NewProbe(e.probeConfig(a)) }

func (e *exam) probeConfig(a attempt) uplink.ProbeConfig {
	c := uplink.ProbeConfig{
		Endpoint: e.at.String(), ClientID: e.report.ClientID, CA: e.cfg.Broker.CA, Certificate: e.cfg.Broker.Certificate, Key: e.cfg.Broker.Key, Access: accessOf(e.cfg),
		KeepAlive: e.cfg.Broker.KeepAlive, Clean: a.clean, Repeated: a.repeated, WithoutWill: a.withoutWill,
		MinTLS: a.minTLS, MaxTLS: a.maxTLS, Dial: e.o.Dial,
	}
	if a.will {
		c.Will = &uplink.Publication{Topic: e.cfg.ReadingsTopic(""), Payload: message.Encode(e.cfg.Thing, message.Will())}
		if !e.report.OwnID { // if the doctor's connection is lost, the board is not offline
			c.Will.Payload = e.payload("will")
		}
	}
	return c
}

// payload makes a message of the doctor. Its "kind" keeps it from being taken for an order.
func (e *exam) payload(what string) []byte {
	b, err := json.Marshal(map[string]string{"thing": e.cfg.Thing, "kind": "probe", "probe": what, "id": e.nonce})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return b
}

// open connects up to the CONNACK. present says whether the broker had a session. If there is
// no error, the caller must close the probe.
func (e *exam) open(ctx context.Context, a attempt) (p *uplink.Probe, present bool, err error) {
	p, err = e.probe(a)
	if err != nil {
		return nil, false, err
	}
	if err = p.Dial(ctx); err == nil {
		if _, err = p.Handshake(ctx); err == nil {
			e.connected = time.Now()
			if present, err = p.Connect(ctx); err == nil {
				return p, present, nil
			}
		}
	}
	p.Close()
	return nil, false, err
}

// again opens another connection. On AWS IoT Core it first waits for the pause that is
// required between two. Other brokers, such as our embedded one, may require it too: if one
// refuses an early connection without a reason, again waits for the pause and tries once
// more.
func (e *exam) again(ctx context.Context, a attempt) (*uplink.Probe, bool, error) {
	if e.aws {
		if err := e.pause(ctx); err != nil {
			return nil, false, err
		}
	}
	soon := time.Since(e.connected) < connectEvery
	p, present, err := e.open(ctx, a)
	if !soon || !refused(err) || !uplink.Inferred(err) {
		return p, present, err
	}
	if err := e.pause(ctx); err != nil {
		return nil, false, err
	}
	return e.open(ctx, a)
}

// pause waits until the client id may send another CONNECT.
func (e *exam) pause(ctx context.Context) error {
	return wait(ctx, connectEvery-time.Since(e.connected))
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tls checks the handshake: the broker's certificate, the version, the names.
func (e *exam) tls(ctx context.Context) bool {
	var state tls.ConnectionState
	err := e.detailed(ctx, "tls handshake", tlsLimit, func(ctx context.Context) (string, []string, error) {
		var err error
		if state, err = e.handshake(ctx, attempt{}); err != nil {
			return "", middlebox(err, e.aws), err
		}
		leaf := state.PeerCertificates[0]
		return fmt.Sprintf("%s, %s; the broker's certificate is issued by %q", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), leaf.Issuer.String()), nil, nil
	})
	if isFailure(err) {
		return false
	}
	_ = e.step(ctx, "sni", tlsLimit, func(context.Context) (string, error) {
		name := e.at.ServerName()
		switch {
		case net.ParseIP(name) == nil:
			return fmt.Sprintf("%q is sent, and the certificate is for it", name), nil
		case e.aws || strings.Contains(state.PeerCertificates[0].Subject.CommonName, ".iot."):
			return "", &finding{outcome: Failed, code: health.ServerUntrusted, what: "no name is sent, because broker.endpoint is an address",
				meaning: "AWS IoT Core finds the account by the name that is sent (SNI), and rejects connections without it.", cure: "Put the name of the endpoint into broker.endpoint."}
		}
		return "", note("no name is sent, because broker.endpoint is an address; the certificate is for it")
	})
	_ = e.step(ctx, "alpn", tlsLimit, func(context.Context) (string, error) {
		switch {
		case e.cfg.Broker.ALPN == "none":
			return "", skip("broker.alpn is none")
		case e.at.Port != "443" && e.cfg.Broker.ALPN == "":
			return "", skip("not needed on port %s", e.at.Port)
		case state.NegotiatedProtocol == "":
			return "", note("the broker did not choose a protocol; AWS IoT Core would have")
		}
		return visible.Text(state.NegotiatedProtocol), nil
	})
	err = e.step(ctx, "tls versions", 2*tlsLimit, e.versions)
	return !isFailure(err)
}

func (e *exam) handshake(ctx context.Context, a attempt) (tls.ConnectionState, error) {
	p, err := e.probe(a)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer p.Close()
	if err := p.Dial(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return p.Handshake(ctx)
}

// versions tries each version of TLS on its own. With TLS 1.2 the broker reports a problem
// with our certificate during the handshake; with 1.3 that report can be lost.
func (e *exam) versions(ctx context.Context) (string, error) {
	var said []string
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		_, err := e.handshake(ctx, attempt{minTLS: version, maxTLS: version})
		var why *uplink.Explained
		switch {
		case err == nil:
			said = append(said, tls.VersionName(version)+" yes")
		case errors.As(err, &why) && health.Lookup(health.Code(why.Code)).Credential && why.Code != string(health.ServerUntrusted):
			return "", err
		case ctx.Err() != nil:
			return "", ctx.Err()
		default:
			said = append(said, tls.VersionName(version)+" no")
		}
	}
	found := strings.Join(said, ", ")
	if strings.Contains(found, " no") {
		return "", note("%s: one is enough", found)
	}
	return found, nil
}

// middlebox returns, for a failed handshake, the signs that something else answers in the
// broker's place.
func middlebox(err error, aws bool) []string {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &record) && bytes.HasPrefix(record.RecordHeader[:], []byte("HTTP/")):
		return []string{"the answer is HTTP: a captive portal, a proxy or a web server answers instead of the broker"}
	case errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0:
		c := verify.UnverifiedCertificates[0]
		from := fmt.Sprintf("the other end has a certificate for %q, issued by %q", c.Subject.String(), c.Issuer.String())
		if aws && !strings.Contains(c.Issuer.String(), "Amazon") {
			return []string{from + ": that is not AWS, so a firewall or proxy that intercepts TLS answers instead of the broker"}
		}
		return []string{from + "; if that is not the broker's, a firewall or proxy that intercepts TLS answers instead"}
	}
	return nil
}

// connect sends CONNECT. If it is refused, connect finds out whether the will is the reason.
func (e *exam) connect(ctx context.Context) bool {
	id := fmt.Sprintf("as %q", e.report.ClientID)
	switch {
	case !e.report.OwnID && e.o.Running != nil:
		id += ", not as " + fmt.Sprintf("%q", e.cfg.Broker.ClientID) + ": a daemon is connected with that id and would be disconnected"
	case !e.report.OwnID:
		id += ", not as the daemon"
	}
	a := e.ordinary()
	err := e.step(ctx, "connect", 4*connectLimit, func(ctx context.Context) (string, error) {
		p, _, err := e.open(ctx, a)
		if uplink.Inferred(err) { // a single hang-up may be chance
			a.repeated = true
			p, _, err = e.again(ctx, a)
		}
		if why := refused(err); why && a.will {
			plain := a
			plain.will, plain.withoutWill = false, true
			without, _, err2 := e.again(ctx, plain)
			if err2 == nil {
				without.Close()
				e.withoutWill = true
				return id + "; only without a will", nil
			}
			if refused(err2) {
				err = err2
			}
		}
		if err != nil {
			return "", err
		}
		p.Close()
		return id, nil
	})
	if isFailure(err) {
		return false
	}
	_ = e.step(ctx, "will", connectLimit, func(context.Context) (string, error) {
		switch {
		case e.withoutWill:
			return "", uplink.WillRefused(e.report.ClientID)
		case !a.will:
			return "", skip("broker.will is none")
		}
		return "accepted, to " + e.cfg.ReadingsTopic(""), nil
	})
	return true
}

// refused reports whether an error is a refused CONNECT.
func refused(err error) bool {
	var why *uplink.Explained
	return errors.As(err, &why) && why.Code == string(health.ConnectRefused)
}

// session checks whether the broker keeps a session.
func (e *exam) session(ctx context.Context) {
	_ = e.step(ctx, "session", 3*connectLimit, func(ctx context.Context) (string, error) {
		if e.clean {
			return "", skip("the daemon's session is clean, because commands.unstamped is accept")
		}
		a := e.ordinary()
		a.clean = false
		first, _, err := e.again(ctx, a)
		if err != nil {
			if !e.report.OwnID && refused(err) {
				return "", fault(health.ConnectRefused, "a CONNECT that asks for a persistent session is refused, one for a clean session is not (on AWS IoT Core, PersistentConnect in iot:ConnectAttributes)")
			}
			return "", err
		}
		first.Close()
		second, present, err := e.again(ctx, a)
		if err != nil {
			return "", err
		}
		second.Close()
		if !e.report.OwnID { // end the session, which nobody needs
			if p, _, err := e.again(ctx, e.ordinary()); err == nil {
				p.Close()
			}
		}
		if !present {
			return "", note("the broker reports that it did not keep the session; orders that are sent while the board is offline may be lost (ActiveMQ reports this although it keeps the session)")
		}
		return "kept", nil
	})
}

// needs returns the resources of a kind for which the daemon needs an action.
func (e *exam) needs(action, kind string) (all []string) {
	for _, n := range need.Of(e.cfg) {
		if r, ok := strings.CutPrefix(n.Resource, kind+"/"); ok && n.Action == action {
			all = append(all, r)
		}
	}
	return all
}

// try opens a connection for do. If the broker hangs up, it does so once more, because two
// hang-ups are not chance.
func (e *exam) try(ctx context.Context, do func(ctx context.Context, p *uplink.Probe, a attempt) error) error {
	var err error
	for _, repeated := range []bool{false, true} {
		a := e.ordinary()
		a.repeated = repeated
		p, _, openErr := e.again(ctx, a)
		if openErr != nil {
			return openErr
		}
		err = do(ctx, p, a)
		p.Close()
		if !uplink.Inferred(err) {
			return err
		}
	}
	return err
}

// subscribe makes each subscription of the daemon.
func (e *exam) subscribe(ctx context.Context) {
	filters := e.needs(awsiot.ActionSubscribe, "topicfilter")
	if len(filters) == 0 {
		_ = e.step(ctx, "subscribe", answerLimit, func(context.Context) (string, error) {
			return "", skip("the daemon subscribes to nothing")
		})
	}
	for _, f := range filters {
		err := e.step(ctx, "subscribe", 4*answerLimit, func(ctx context.Context) (string, error) {
			return f, e.try(ctx, func(ctx context.Context, p *uplink.Probe, _ attempt) error {
				ctx, cancel := context.WithTimeout(ctx, answerLimit)
				defer cancel()
				return p.Subscribe(ctx, uplink.Subscription{Filter: f, QoS: e.qos()})
			})
		})
		if err == nil {
			e.granted = append(e.granted, f)
		}
	}
}

// qos returns the QoS of the daemon's subscriptions.
func (e *exam) qos() byte {
	if e.clean {
		return 0
	}
	return 1
}

// publish publishes to each topic of the daemon and, where possible, checks that the message
// comes back.
func (e *exam) publish(ctx context.Context) {
	topics := e.needs(awsiot.ActionPublish, "topic")
	if e.o.NoPublish {
		_ = e.step(ctx, "publish", answerLimit, func(context.Context) (string, error) { return "", skip("not asked for") })
		return
	}
	for _, t := range topics {
		_ = e.step(ctx, "publish", 4*answerLimit, func(ctx context.Context) (string, error) {
			listening := ""
			err := e.try(ctx, func(ctx context.Context, p *uplink.Probe, a attempt) error {
				ctx, cancel := context.WithTimeout(ctx, answerLimit)
				defer cancel()
				return e.roundTrip(ctx, p, a, t, &listening)
			})
			return t + listening, err
		})
	}
	if e.o.Retained && len(topics) > 0 {
		t := e.cfg.ReadingsTopic("")
		_ = e.step(ctx, "retained", 4*answerLimit, func(ctx context.Context) (string, error) {
			return t + ": published, and deleted again", e.try(ctx, func(ctx context.Context, p *uplink.Probe, _ attempt) error {
				if err := p.Publish(ctx, t, e.payload("retained"), true); err != nil {
					return err
				}
				return p.Publish(ctx, t, nil, true)
			})
		})
	}
}

// roundTrip publishes a message. It also waits for the message to come back, if subscribing
// to the topic does not make the broker hang up. What it found out is appended to listening.
func (e *exam) roundTrip(ctx context.Context, p *uplink.Probe, a attempt, t string, listening *string) error {
	ours := slices.IndexFunc(e.granted, func(f string) bool { return topic.Matches(f, t) })
	filter := t
	*listening = ": acknowledged; delivery was not checked, because that needs a subscription that the daemon does not make"
	switch {
	case ours >= 0:
		filter = e.granted[ours]
	case e.aws || slices.ContainsFunc(e.needs(awsiot.ActionSubscribe, "topicfilter"), func(f string) bool { return topic.Matches(f, t) }):
		return p.Publish(ctx, t, e.payload("publish"), false)
	}
	if err := p.Subscribe(ctx, uplink.Subscription{Filter: filter, QoS: e.qos()}); err != nil {
		if ours >= 0 || ctx.Err() != nil {
			return err
		}
		if !uplink.Inferred(err) {
			return p.Publish(ctx, t, e.payload("publish"), false)
		}
		again, _, err := e.again(ctx, a) // this broker hangs up when it denies something
		if err != nil {
			return err
		}
		defer again.Close()
		return again.Publish(ctx, t, e.payload("publish"), false)
	}
	sent := e.payload("publish")
	if err := p.Publish(ctx, t, sent, false); err != nil {
		return err
	}
	echo, cancel := context.WithTimeout(ctx, echoLimit)
	defer cancel()
	err := p.Receive(echo, func(m uplink.Message) bool { return m.Topic == t && bytes.Equal(m.Payload, sent) })
	if ours < 0 && ctx.Err() == nil && !uplink.Inferred(err) {
		if err := p.Unsubscribe(ctx, filter); err != nil {
			return err
		}
	}
	switch {
	case err == nil:
		*listening = ": acknowledged and received"
		return nil
	case uplink.Inferred(err) || ctx.Err() != nil:
		return err
	case ours >= 0 || e.cfg.Broker.Verify == "subscribe":
		return fault(health.NotDelivered, "%s: acknowledged, but not delivered within %v although the subscription was granted", t, echoLimit)
	}
	*listening = ": acknowledged, but not delivered: the broker dropped it, or does not allow reading the topic"
	return note("%s%s", t, *listening)
}

// rival keeps a connection open for a while. An idle minute shows whether the keep-alive
// works. A hang-up suggests that another client uses the same client id.
func (e *exam) rival(ctx context.Context) {
	held := rivalTime
	name := "same client id"
	if e.o.Idle {
		held, name = idleTime, "idle minute"
	}
	_ = e.step(ctx, name, 3*(held+connectLimit), func(ctx context.Context) (string, error) {
		if r := e.o.Running; !e.report.OwnID && r != nil && r.Fault == string(health.DuplicateClient) {
			return "", fault(health.DuplicateClient, "the daemon reports: %s", r.Detail)
		}
		err := e.hold(ctx, held, false)
		if err == nil {
			return fmt.Sprintf("the connection stayed open for %v with only a keep-alive every %v; no other client took it over", held, e.keepAlive()), nil
		}
		if !uplink.Inferred(err) {
			return "", err
		}
		if err = e.hold(ctx, held, true); err == nil {
			return "", note("the broker closed one connection and kept the next; the cause is another client with this client id, or the network")
		}
		return "", err
	})
}

// keepAlive returns the keep-alive interval of the daemon.
func (e *exam) keepAlive() time.Duration {
	if e.cfg.Broker.KeepAlive > 0 {
		return e.cfg.Broker.KeepAlive
	}
	return 30 * time.Second
}

// hold keeps a connection open with nothing but pings. It returns nil if the broker kept it
// open too.
func (e *exam) hold(ctx context.Context, how time.Duration, repeated bool) error {
	a := e.ordinary()
	a.repeated = repeated
	p, _, err := e.again(ctx, a)
	if err != nil {
		return err
	}
	defer p.Close()
	end := time.NewTimer(how)
	defer end.Stop()
	ping := time.NewTicker(e.keepAlive())
	defer ping.Stop()
	for over := false; ; {
		select {
		case <-end.C:
			over = true // a last ping shows whether it is still open
		case <-ping.C:
		case <-p.Ended():
			return p.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
		limited, cancel := context.WithTimeout(ctx, pingLimit)
		err := p.Ping(limited)
		cancel()
		if err != nil || over {
			return err
		}
	}
}
