package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/local"
	"fieldpost/daemon/provision"
	"fieldpost/daemon/regular"
)

// renewPatience is how long a renewal may take until the answer is that it is still under
// way: a connection for the requests, the requests, and one to try the certificate.
const renewPatience = 3 * time.Minute

// provisioningCodes are the faults of provisioning. One at most is raised.
var provisioningCodes = health.Codes(health.Provisioning)

// newProvisioner makes what gets and renews the daemon's certificate; nil where the
// certificate comes from elsewhere.
func newProvisioner(d *Daemon, cfg *config.Config) *provision.Provisioner {
	if !cfg.Broker.Provisioning.Enabled() {
		return nil
	}
	return provision.New(provision.Options{
		Dir: provision.Storage(filepath.Dir(cfg.Broker.Certificate)), Clock: d.o.Clock, Log: d.log,
		Settings:    func() provision.Settings { return provisionSettings(d.config()) },
		Try:         d.link.Try,
		Installed:   d.swapped.Set, // has the files read again, as after a swap
		Report:      d.provisioningFailed,
		ClaimExists: func() bool { return regular.Check(d.config().Broker.Provisioning.ClaimCertificate) == nil },
	})
}

// provisionSettings is what the provisioner is told of a configuration.
func provisionSettings(cfg *config.Config) provision.Settings {
	p := cfg.Broker.Provisioning
	return provision.Settings{
		Thing: cfg.Thing, Endpoint: cfg.Endpoint(), ClientID: p.ClientID, CA: cfg.Broker.CA, Proxy: cfg.Broker.Proxy, ALPN: cfg.Broker.ALPN,
		ClaimCertificate: p.ClaimCertificate, ClaimKey: p.ClaimKey, Current: cfg.Broker.Certificate,
		Template: p.Template, RenewWith: p.RenewTemplate, RenewBefore: p.RenewBefore, Parameters: p.Parameters,
	}
}

// provisioningFailed keeps the one fault of provisioning that is true now; nil is none.
func (p *process) provisioningFailed(f *provision.Failure) {
	for _, c := range provisioningCodes {
		if f != nil && f.Code == c {
			p.health.RaiseFor(c, broker, f.What, f.Hint)
		} else {
			p.health.Clear(c, broker)
		}
	}
}

// provisioning gets and renews the certificate until its context ends.
func provisioning(p *provision.Provisioner) func(context.Context) error {
	if p != nil {
		return p.Run
	}
	return func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
}

// localRenew renews the daemon's certificate for somebody on the socket.
func localRenew(ctx context.Context, d *Daemon, body json.RawMessage, from string) (any, error) {
	var call api.RenewRequest
	if body != nil {
		if err := local.Arguments(body, &call); err != nil {
			return nil, err
		}
	}
	switch {
	case call.Thing != "" && call.Thing != d.config().Thing:
		return nil, d.notOurs("request")
	case d.provisioner == nil:
		return nil, &api.Error{Code: api.NotProvisioning, Text: "this board's certificate does not come by provisioning", Hint: "Set `broker.provisioning` in the configuration, or put new files in the place of `broker.certificate` and `broker.key` and run `fieldpost reconnect`."}
	}
	d.log.Info("renewing the certificate on request", "cause", from)
	ctx, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	err := d.provisioner.Renew(ctx)
	var failed *provision.Failure
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &api.Error{Code: api.Busy, Text: fmt.Sprintf("the renewal has not ended in %v", renewPatience), Hint: "`fieldpost status` shows how it ends."}
	case errors.As(err, &failed):
		hint := failed.Hint
		if hint == "" {
			hint = d.health.CureOf(failed.Code, broker)
		}
		return nil, &api.Error{Code: string(failed.Code), Text: failed.What, Hint: hint}
	case err != nil:
		return nil, err
	}
	c := d.reportCertificate()
	return api.RenewAnswer{File: c.File, Expires: c.Expires}, nil
}
