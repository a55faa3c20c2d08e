package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/provision"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/uplink"
)

// unprovisioned reports whether the board will get its certificate by provisioning and does
// not have it yet.
func unprovisioned(cfg *config.Config) bool {
	return cfg.Broker.Provisioning.Enabled() && errors.Is(regular.Check(cfg.Broker.Certificate), fs.ErrNotExist)
}

// unprovisionedText is the note for such a board.
const unprovisionedText = "this board has no certificate of its own yet; the daemon gets one with the claim certificate, which is checked instead"

// asClaim returns the configuration for the connection that provisioning makes, with the
// claim certificate.
func asClaim(cfg *config.Config) *config.Config {
	claim := *cfg
	p := cfg.Broker.Provisioning
	claim.Broker.Certificate, claim.Broker.Key, claim.Broker.ClientID, claim.Broker.Will = p.ClaimCertificate, p.ClaimKey, p.ClientID, "none"
	return &claim
}

// simulate evaluates policies for everything that the daemon does with this configuration,
// with the board's certificate. If the board has none yet, it evaluates what provisioning
// does with the claim certificate.
func simulate(cfg *config.Config, p *awsiot.Policy) []need.Answer {
	if !unprovisioned(cfg) {
		by := need.Connection(cfg)
		by.Certificate = need.Certificate(cfg.Broker.Certificate)
		return need.Simulate(cfg, p, by, "", false).Needs
	}
	return need.SimulateClaim(cfg, p)
}

// claim connects with the claim certificate and subscribes to the answers, as provisioning
// does. It does not request a certificate.
func (e *exam) claim(ctx context.Context) {
	if !e.connect(ctx) {
		return
	}
	for _, t := range provision.RequestTopics(e.cfg.Broker.Provisioning.Template) {
		for _, f := range []string{t + "/accepted", t + "/rejected"} {
			_ = e.step(ctx, "subscribe", 4*answerLimit, func(ctx context.Context) (string, error) {
				err := e.try(ctx, func(ctx context.Context, p *uplink.Probe, _ attempt) error {
					ctx, cancel := context.WithTimeout(ctx, answerLimit)
					defer cancel()
					return p.Subscribe(ctx, uplink.Subscription{Filter: f, QoS: 1})
				})
				var why *uplink.Explained
				if errors.As(err, &why) && why.Code == string(health.SubscribeDenied) {
					hinted := *why
					hinted.Hint, hinted.Err = provision.DeniedHint(f, true), err
					return "", &hinted
				}
				return f, err
			})
		}
	}
	_ = e.step(ctx, "publish", answerLimit, func(context.Context) (string, error) {
		return "", skip("a request would create a certificate; `--policy FILE` with the policy of the claim certificate shows whether it is allowed")
	})
}

// renewal connects with the board's certificate and the client id of provisioning, and
// subscribes to the answers, as a renewal does. It does not request a certificate. A refusal
// is only noted, because the daemon works until the certificate expires.
func (e *exam) renewal(ctx context.Context) {
	p := e.cfg.Broker.Provisioning
	if !p.Enabled() {
		return
	}
	other, cfg := *e, *e.cfg
	cfg.Broker.ClientID, cfg.Broker.Will = p.ClientID, "none"
	other.cfg, other.clean, other.report.ClientID, other.report.OwnID = &cfg, true, p.ClientID, true
	_ = e.step(ctx, "renewal", 16*answerLimit, func(ctx context.Context) (string, error) {
		for _, t := range provision.RequestTopics(p.RenewTemplate) {
			for _, f := range []string{t + "/accepted", t + "/rejected"} {
				err := other.try(ctx, func(ctx context.Context, p *uplink.Probe, _ attempt) error {
					ctx, cancel := context.WithTimeout(ctx, answerLimit)
					defer cancel()
					return p.Subscribe(ctx, uplink.Subscription{Filter: f, QoS: 1})
				})
				if err != nil && ctx.Err() == nil {
					return "", note("the certificate cannot be renewed: %v; %s", err, provision.DeniedHint(f, false))
				}
			}
		}
		return fmt.Sprintf("allowed for client id %q", p.ClientID), nil
	})
	e.connected = other.connected
}
