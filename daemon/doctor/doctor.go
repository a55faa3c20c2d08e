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
)

// Options say what [Examine] examines.
type Options struct {
	Config *config.Config
	Machine
	Policies []string // files of AWS IoT policies that are attached to the certificate
	// Running is the daemon that runs with this configuration; nil is none. Its client id
	// is not used then, as that would end its connection.
	Running  *Running
	ClientID string // to connect as; "" is the configuration's, or one beside a daemon that runs
	Idle     bool   // keep a connection through an idle minute
	Retained bool   // publish a retained message, and take it away again
	// NoPublish leaves out what publishes.
	NoPublish bool
	Now       time.Time  // when the dates of the certificates are looked at
	Observe   func(Step) // told of each step when it is done; may be nil

	// Dial and Resolve are for tests; nil is the operating system's.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Resolve func(ctx context.Context, host string) ([]string, error)
}

// Running is what is known of a daemon that runs.
type Running struct {
	Connected bool
	ClientID  string
	Fault     string // the code of what is wrong with its connection; "" is nothing
	Detail    string
}

// The time that one step may take.
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
	connectEvery = 1100 * time.Millisecond // AWS IoT Core takes one CONNECT/s from a client id
)

// exam is an examination under way.
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
	withoutWill bool      // CONNECT is accepted without a will only
	granted     []string
	failed      []string // names of steps
}

// Examine does all that [Check] does and then goes step by step to the broker and
// back, as the daemon would. It ends soon when ctx does, with ctx's error; each step
// has a limit of its own. A step that failed is in the report and is no error.
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
		// `send --via mqtt` has ids of the second form, which its policy allows.
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

// allowed reports whether the policies that were given let a client id connect.
func (e *exam) allowed(id string) bool {
	by := need.Connection(e.cfg)
	by.ClientID = id
	by.Certificate = need.Certificate(e.cfg.Broker.Certificate)
	return e.policy.Connect(by).Allowed
}

// step does one step and reports it. It gives the step's error.
func (e *exam) step(ctx context.Context, name string, limit time.Duration, do func(ctx context.Context) (string, error)) error {
	return e.detailed(ctx, name, limit, func(ctx context.Context) (string, []string, error) {
		found, err := do(ctx)
		return found, nil, err
	})
}

func (e *exam) detailed(ctx context.Context, name string, limit time.Duration, do func(ctx context.Context) (string, []string, error)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	found, detail, err := do(limited)
	if ctx.Err() != nil {
		return ctx.Err() // interrupted: this says nothing of the broker
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

// local examines what is on this machine. It reports whether the credentials can be used.
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
	_ = e.detailed(ctx, "hardware", time.Minute, func(context.Context) (string, []string, error) {
		if e.o.Board == nil {
			return "", nil, skip("there is no board to look at")
		}
		var w bytes.Buffer
		bad := checkHardware(e.cfg, e.o.Board, &w)
		powerOn(e.cfg, e.o.Board, &w)
		stopped(e.cfg, e.o.Systemd, &w)
		firewall(e.cfg, e.o.Systemd, &w)
		if bad > 0 {
			return "", lines(w.String()), &finding{outcome: Failed, what: fmt.Sprintf("%d problems", bad),
				meaning: "Sensors or outputs of the configuration cannot be used on this machine.", cure: "See the lines."}
		}
		return fmt.Sprintf("%d sensors, %d outputs", len(e.cfg.Sensors), len(e.cfg.Outputs)), lines(w.String()), nil
	})
	if e.policy != nil {
		_ = e.detailed(ctx, "policy", time.Minute, func(context.Context) (string, []string, error) {
			var w bytes.Buffer
			bad, err := checkPolicies(e.o.Config, e.o.Policies, &w)
			if err == nil && bad > 0 {
				err = &finding{outcome: Failed, what: fmt.Sprintf("%d actions that are needed are denied", bad),
					meaning: "AWS IoT Core would close the connection at each of them.", cure: "`fieldpost policy generate` prints a policy that allows what this configuration needs; with --claim, that of a claim certificate."}
			}
			return "allows what is needed", lines(w.String()), err
		})
	}
	return usable
}

func lines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// credentialsStep examines the three files: readable, key to certificate, chain, dates.
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
	return "files, chain and dates are good, the key belongs to the certificate", all, first
}

// network resolves the name and tries the ports.
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
			instead = "port " + e.at.Port + " is blocked on the way: set broker.endpoint to " + net.JoinHostPort(e.at.Host, other)
		}
		if other == "443" && !e.aws {
			instead += "; only AWS IoT Core is known to take MQTT there"
		}
		_ = e.port(ctx, other, instead)
	}
	return !isFailure(reached)
}

// port opens a TCP connection; instead is for a port that is not the configured one.
func (e *exam) port(ctx context.Context, port, instead string) error {
	return e.step(ctx, "tcp "+port, dialLimit, func(ctx context.Context) (string, error) {
		address := net.JoinHostPort(e.at.Host, port)
		c, err := accessOf(e.cfg).Dial(ctx, address, e.o.Dial)
		switch {
		case err != nil && instead != "":
			return "", note("%s cannot be reached, which does not matter while %s can be: %v", address, e.at.String(), err)
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
