package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
)

// Options says what [Examine] examines.
type Options struct {
	Config *config.Config
	Machine
	Policies []string // files of AWS IoT policies that are attached to the certificate
	// Running is the daemon that is running with this configuration; nil if none is. Its
	// client id is then not used, because that would end its connection.
	Running  *Running
	ClientID string // to connect with; "" is the configuration's, or another if a daemon is running
	Idle     bool   // keep a connection open for an idle minute
	Retained bool   // publish a retained message, and delete it again
	// NoPublish skips the steps that publish.
	NoPublish bool
	Now       time.Time  // the time for which the dates of certificates are checked
	Observe   func(Step) // called after each step; may be nil

	// Dial and Resolve are for tests; nil uses the operating system's.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Resolve func(ctx context.Context, host string) ([]string, error)
}

// Running is what is known about a running daemon.
type Running struct {
	Connected bool
	ClientID  string
	Fault     string // the code of its connection's fault; "" is none
	Detail    string
}

// Time limits of single steps.
const (
	dnsLimit     = 10 * time.Second
	dialLimit    = 10 * time.Second
	tlsLimit     = 10 * time.Second
	connectLimit = 15 * time.Second
	answerLimit  = 15 * time.Second
	pingLimit    = 10 * time.Second
	echoLimit    = 5 * time.Second
	idleTime     = time.Minute
	rivalTime    = 3 * time.Second
	connectEvery = 1100 * time.Millisecond // AWS IoT Core accepts one CONNECT per second and client id
)

// exam is a running examination.
type exam struct {
	o      Options
	cfg    *config.Config
	at     endpoint.Endpoint
	report Report
	clean  bool           // the daemon's session is clean
	aws    bool           // the endpoint is AWS IoT Core's
	proxy  string         // without its password; "" is none
	policy *awsiot.Policy // nil: none was given
	nonce  string

	connected   time.Time // when the last CONNECT was sent
	withoutWill bool      // CONNECT is accepted only without a will
	granted     []string
	failed      []string // names of failed steps
}

// Examine does everything that [Check] does. Then it goes to the broker step by step, as the
// daemon would. It returns soon after ctx ends, with ctx's error; each step also has its own
// time limit. A failed step is in the report and is not an error.
func Examine(ctx context.Context, o Options) (Report, error) {
	at, err := endpoint.Parse(o.Config.Broker.Endpoint)
	if err != nil {
		return Report{}, fmt.Errorf("endpoint %q: %w", o.Config.Broker.Endpoint, err)
	}
	if o.Resolve == nil {
		o.Resolve = net.DefaultResolver.LookupHost
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Observe == nil {
		o.Observe = func(Step) {}
	}
	e := &exam{
		o: o, cfg: o.Config, at: at, nonce: fmt.Sprintf("%x", time.Now().UnixNano()),
		clean: !slices.Contains(need.Connection(o.Config).ConnectAttributes, awsiot.PersistentConnect),
		aws:   o.Config.Broker.Limits == "aws" || strings.HasSuffix(at.Host, ".amazonaws.com") || strings.HasSuffix(at.Host, ".amazonaws.com.cn"),
	}
	proxy, err := accessOf(o.Config).ProxyFor(at.String())
	if err != nil {
		return Report{}, err
	}
	if proxy != nil {
		e.proxy = proxy.Redacted()
	}
	e.report = Report{Config: o.Config.File, Endpoint: at.String()}
	if len(o.Policies) > 0 {
		if e.policy, err = need.Read(nil, o.Policies...); err != nil {
			return e.report, err
		}
	}
	claim := unprovisioned(e.cfg)
	if claim {
		_ = e.step(ctx, "provisioning", time.Minute, func(context.Context) (string, error) { return "", note(unprovisionedText) })
		e.cfg, e.clean = asClaim(e.cfg), true
		e.report.ClientID, e.report.OwnID = e.cfg.Broker.ClientID, true
	} else {
		e.chooseID()
	}
	usable := e.local(ctx)
	if e.network(ctx) && usable && e.tls(ctx) {
		if claim {
			e.claim(ctx)
		} else if e.connect(ctx) {
			e.session(ctx)
			e.subscribe(ctx)
			e.publish(ctx)
			e.rival(ctx)
			e.renewal(ctx)
		}
		e.askVersion5(ctx)
	}
	if err := ctx.Err(); err != nil {
		return e.report, fmt.Errorf("examine: %w", err)
	}
	return e.report, nil
}

// chooseID chooses the client id to connect as.
func (e *exam) chooseID() {
	own := e.cfg.Broker.ClientID
	id := e.o.ClientID
	if id == "" && e.o.Running == nil {
		id = own
	}
	if id == "" {
		// `send --via mqtt` uses ids of the second form, so its policy allows them.
		candidates := []string{own + "-doctor", own + "-send-doctor", "test-doctor"}
		id = candidates[1]
		for _, c := range candidates {
			if e.policy != nil && e.allowed(c) {
				id = c
				break
			}
		}
	}
	e.report.ClientID, e.report.OwnID = id, id == own
}

// allowed reports whether the given policies allow a client id to connect.
func (e *exam) allowed(id string) bool {
	by := need.Connection(e.cfg)
	by.ClientID = id
	by.Certificate = need.Certificate(e.cfg.Broker.Certificate)
	return e.policy.Connect(by).Allowed
}

// step runs one step, adds it to the report, and returns the step's error.
func (e *exam) step(ctx context.Context, name string, limit time.Duration, do func(ctx context.Context) (string, error)) error {
	return e.detailed(ctx, name, limit, func(ctx context.Context) (string, []string, error) {
		found, err := do(ctx)
		return found, nil, err
	})
}

// detailed is step for a step that also returns lines of detail.
func (e *exam) detailed(ctx context.Context, name string, limit time.Duration, do func(ctx context.Context) (string, []string, error)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	found, detail, err := do(limited)
	if ctx.Err() != nil {
		return ctx.Err() // interrupted: the result says nothing about the broker
	}
	s := Step{Name: name, Seconds: time.Since(began).Seconds(), Detail: detail}
	s.setResult(found, err)
	if s.Outcome == Failed {
		e.report.Failed++
		e.failed = append(e.failed, name)
	}
	e.report.Steps = append(e.report.Steps, s)
	e.o.Observe(s)
	return err
}

// local checks everything on this machine. It reports whether the credentials can be used.
func (e *exam) local(ctx context.Context) (usable bool) {
	err := e.detailed(ctx, "credentials", time.Minute, func(context.Context) (string, []string, error) {
		return credentialsStep(e.cfg, e.o.Now)
	})
	var why *uplink.Explained
	usable = !errors.As(err, &why) || why.Code != string(health.CertificateUnusable)
	_ = e.detailed(ctx, "modes", time.Minute, func(context.Context) (string, []string, error) {
		var lines []string
		open := access.Look(e.cfg.Places(e.o.Runtime))
		for _, subject := range access.Subjects {
			for _, o := range open[subject] {
				lines = append(lines, o.String())
			}
		}
		if len(lines) > 0 {
			return "", lines, note("open to other users")
		}
		return "nothing is open to other users", nil, nil
	})
	_ = e.detailed(ctx, "spool", time.Minute, func(context.Context) (string, []string, error) {
		var w bytes.Buffer
		if volatile(e.cfg, &w); w.Len() > 0 {
			return "", lines(w.String()), note("it does not survive a power cut")
		}
		return visible.Text(e.cfg.Spool.Dir), nil, nil
	})
	_ = e.detailed(ctx, "hardware", time.Minute, func(context.Context) (string, []string, error) {
		if e.o.Board == nil {
			return "", nil, skip("there is no board to check")
		}
		var w bytes.Buffer
		bad := checkHardware(e.cfg, e.o.Board, &w)
		powerOn(e.cfg, e.o.Board, &w)
		stopped(e.cfg, e.o.Systemd, &w)
		firewall(e.cfg, e.o.Systemd, &w)
		if bad > 0 {
			return "", lines(w.String()), &finding{outcome: Failed, what: fmt.Sprintf("%d problems", bad),
				meaning: "Sensors or outputs of the configuration cannot be used on this machine.", cure: "See the lines above."}
		}
		return fmt.Sprintf("%d sensors, %d outputs", len(e.cfg.Sensors), len(e.cfg.Outputs)), lines(w.String()), nil
	})
	if e.policy != nil {
		_ = e.detailed(ctx, "policy", time.Minute, func(context.Context) (string, []string, error) {
			var w bytes.Buffer
			bad, err := checkPolicies(e.o.Config, e.o.Policies, &w)
			if err == nil && bad > 0 {
				err = &finding{outcome: Failed, what: fmt.Sprintf("%d necessary actions are denied", bad),
					meaning: "AWS IoT Core would close the connection at each of them.", cure: "`fieldpost policy generate` prints a policy that allows what this configuration needs; with --claim, the policy for a claim certificate."}
			}
			return "allows what is needed", lines(w.String()), err
		})
	}
	return usable
}

// lines splits a text into its lines.
func lines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// credentialsStep checks the files of the credentials: readable, the key matches the
// certificate, chain, dates.
func credentialsStep(cfg *config.Config, now time.Time) (string, []string, error) {
	var all []string
	var first error
	for _, p := range uplink.CheckFiles(filesOf(cfg), now) {
		if !p.Warning && first == nil {
			first = &uplink.Explained{Code: p.Code, What: p.File + ": " + p.What, Hint: p.Do}
			continue
		}
		all = append(all, p.String())
	}
	if first == nil && len(all) > 0 {
		first = note("the files can be used")
	}
	if cfg.Broker.Certificate == "" {
		return fmt.Sprintf("the files are good; no certificate, user name %q", cfg.Broker.Username), all, first
	}
	return "files, chain and dates are good, the key matches the certificate", all, first
}

// network resolves the broker's name and tries its ports.
func (e *exam) network(ctx context.Context) bool {
	err := e.step(ctx, "dns", dnsLimit, func(ctx context.Context) (string, error) {
		if e.proxy != "" {
			return "", skip("the proxy %s resolves the name", e.proxy)
		}
		if net.ParseIP(e.at.ServerName()) != nil {
			return "", skip("%s is an address", e.at.Host)
		}
		addresses, err := e.o.Resolve(ctx, e.at.Host)
		if err != nil {
			return "", uplink.Explain(err, uplink.Disconnect{Endpoint: e.at.String()})
		}
		return e.at.Host + " is " + strings.Join(addresses, ", "), nil
	})
	if isFailure(err) {
		return false
	}
	reached := e.port(ctx, e.at.Port, "")
	other := map[string]string{"8883": "443", "443": "8883"}[e.at.Port]
	if other != "" {
		instead := "not needed"
		if reached != nil {
			instead = "port " + e.at.Port + " is blocked somewhere in the network: set broker.endpoint to " + net.JoinHostPort(e.at.Host, other)
		}
		if other == "443" && !e.aws {
			instead += "; only AWS IoT Core is known to accept MQTT there"
		}
		_ = e.port(ctx, other, instead)
	}
	return !isFailure(reached)
}

// port opens a TCP connection. instead is empty for the configured port; for another port it
// says when that one should be used.
func (e *exam) port(ctx context.Context, port, instead string) error {
	return e.step(ctx, "tcp "+port, dialLimit, func(ctx context.Context) (string, error) {
		address := net.JoinHostPort(e.at.Host, port)
		c, err := accessOf(e.cfg).Dial(ctx, address, e.o.Dial)
		switch {
		case err != nil && instead != "":
			return "", note("%s cannot be reached, which does not matter as long as %s can: %v", address, e.at.String(), err)
		case err != nil:
			return "", uplink.Explain(err, uplink.Disconnect{Endpoint: address})
		}
		defer c.Close()
		found := c.RemoteAddr().String() + " answers"
		if e.proxy != "" {
			found = "the proxy " + e.proxy + " connects to it"
		}
		if instead != "" {
			found += "; " + instead
		}
		return found, nil
	})
}

// isFailure reports whether a step's error is a failure, and not a note or a skip.
func isFailure(err error) bool {
	var f *finding
	return err != nil && !(errors.As(err, &f) && f.outcome != Failed)
}
