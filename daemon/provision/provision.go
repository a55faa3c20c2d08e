package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/wake"
)

// Settings are what the configuration says.
type Settings struct {
	Thing               string // which the template must register
	Endpoint, ClientID  string // of the connections for provisioning
	CA                  string // PEM file of root certificates
	Proxy, ALPN         string // as in [uplink.Access]
	ClaimCertificate    string // PEM file
	ClaimKey            string // PEM file
	Current             string // the path of the file with the pair in use
	Template, RenewWith string // for the first certificate, and for later ones
	RenewBefore         time.Duration
	Parameters          map[string]string
}

// Options is what a Provisioner is made of.
type Options struct {
	Dir      durable.Dir // see [Storage]
	Settings func() Settings
	Clock    clock.Clock
	Log      *slog.Logger
	// Try makes the link's next connection with a pair: see [uplink.Link.Try].
	Try func(ctx context.Context, pair []byte, acknowledged bool) error
	// Installed is told that another pair is in use; it must not block.
	Installed func()
	// Report is told the failure of an attempt, and nil when there is none any more. It must
	// not block.
	Report func(*Failure)
	// Open opens a session; nil is [Open]. For tests.
	Open func(context.Context, Account) (Session, error)
	// ClaimExists reports whether there is a claim certificate.
	ClaimExists func() bool
	// Random returns a duration below another one; nil is the usual. For tests.
	Random func(below time.Duration) time.Duration
}

// The waits between attempts. Each is random, at most the bound that doubles.
const (
	firstBound   = 4 * time.Second
	mostBound    = 15 * time.Minute // without a certificate
	mostRenewing = 6 * time.Hour    // the present one works
	startSpread  = 5 * time.Second  // boards that start together do not ask together
	checkEvery   = time.Hour        // whether a renewal is due
	tryWait      = 30 * time.Second // between trials of a renewal: each costs a connection
	maxTrials    = 8                // of a pair that is registered, before another is made
	maxDoubtful  = 2                // of one of which that is not known
)

// Provisioner gets and renews the certificate.
type Provisioner struct {
	o    Options
	wake wake.Signal // somebody waits

	mu      sync.Mutex
	waiting []chan<- error

	// Run's goroutine.
	loaded     bool
	current    *pair   // nil: none yet
	next       *record // nil: nothing was begun
	unsaved    bool    // next is not on disk as it is
	proven     bool    // the link uses next
	ownRefused bool    // the broker refused the present certificate at the last request
	failures   int     // attempts in a row
}

// New returns a Provisioner that does nothing until Run.
func New(o Options) *Provisioner {
	if o.Open == nil {
		o.Open = Open
	}
	if o.Random == nil {
		o.Random = func(below time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(below))) }
	}
	return &Provisioner{o: o, wake: wake.New()}
}

// Run provisions the board if it has no certificate, renews the certificate when that is due
// or asked for, and continues what an earlier run has begun, until ctx ends. It returns nil.
func (p *Provisioner) Run(ctx context.Context) error {
	wait := time.Duration(0)
	if p.load() == nil && p.current == nil && p.next == nil {
		wait = p.o.Random(startSpread)
	}
	for {
		p.pause(ctx, wait)
		if ctx.Err() != nil {
			p.answer(p.take(), ctx.Err())
			return nil
		}
		asked := p.take()
		var err error
		wait, err = p.turn(ctx, len(asked) > 0)
		p.answer(asked, err)
	}
}

// Renew has the certificate renewed now, or provisioning continued without waiting any
// longer. A pair that cannot be used because it is another thing's is given up. It returns
// when the new certificate is in use; the error is a [*Failure] if that failed this time, or
// ctx's. Any goroutine.
func (p *Provisioner) Renew(ctx context.Context) error {
	done := make(chan error, 1)
	p.mu.Lock()
	p.waiting = append(p.waiting, done)
	p.mu.Unlock()
	p.wake.Set()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns those who wait.
func (p *Provisioner) take() []chan<- error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.waiting
	p.waiting = nil
	p.wake.Clear()
	return all
}

// answer tells those who wait what their attempt has come to.
func (p *Provisioner) answer(all []chan<- error, err error) {
	for _, done := range all {
		done <- err // there is room for the one answer
	}
}

// pause waits, or until somebody asks.
func (p *Provisioner) pause(ctx context.Context, d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-ctx.Done():
	case <-over.C:
	case <-p.wake.C():
	}
}

// turn does what there is to do now. It returns how long there is nothing to do.
func (p *Provisioner) turn(ctx context.Context, asked bool) (wait time.Duration, err error) {
	s := p.o.Settings()
	err = p.load()
	if err == nil {
		if !asked && !p.due(s) {
			return p.untilDue(s), nil
		}
		err = p.advance(ctx, s, asked)
	}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err == nil:
		p.failures, p.ownRefused = 0, false
		p.o.Report(nil)
		return p.untilDue(s), nil
	}
	return p.failed(err), err
}

// failed reports a failure. It returns the wait until the next attempt.
func (p *Provisioner) failed(err error) time.Duration {
	var f *Failure
	if !errors.As(err, &f) {
		f = &Failure{What: err.Error(), Err: err}
	}
	most := mostBound
	if p.current != nil {
		most = mostRenewing
	}
	bound := most
	if p.failures < 16 {
		bound = min(most, firstBound<<p.failures)
	}
	p.failures++
	wait := bound/2 + p.o.Random(bound/2)
	if p.current != nil && p.next != nil && p.next.Certificate != "" {
		wait = max(wait, tryWait)
	}
	if f.Code == "" {
		f.Code = health.ProvisioningFailed
		if p.current != nil {
			f.Code = health.RenewalFailed
		}
	}
	p.o.Report(f)
	p.o.Log.Warn("no new certificate", "code", string(f.Code), "error", f.What, "hint", f.Hint, "attempt", p.failures, "wait", wait.Truncate(time.Second))
	return wait
}

// due reports whether there is something to do without being asked.
func (p *Provisioner) due(s Settings) bool {
	if p.next != nil || p.current == nil {
		return true
	}
	now := p.o.Clock.Now()
	return now.Synced && !now.Wall.Before(RenewAt(p.current.leaf, s.RenewBefore))
}

// untilDue returns how long there is nothing to do without being asked: until the renewal is
// due, but at most an hour, as the clock may be set. A certificate that is due as soon as it
// is issued waits for that hour too.
func (p *Provisioner) untilDue(s Settings) time.Duration {
	if p.current == nil {
		return checkEvery
	}
	left := RenewAt(p.current.leaf, s.RenewBefore).Sub(p.o.Clock.Now().Wall)
	if left <= 0 {
		return checkEvery
	}
	return min(checkEvery, left)
}

// advance carries on from where things stand, as far as it gets.
func (p *Provisioner) advance(ctx context.Context, s Settings, asked bool) error {
	if err := p.begin(s, asked); err != nil || p.next == nil {
		return err
	}
	if !p.next.Registered && !p.next.InDoubt {
		if err := p.request(ctx, s); err != nil {
			return err
		}
	}
	if thing := p.next.Thing; thing != "" && thing != s.Thing {
		return &Failure{Code: health.ThingMismatch, What: fmt.Sprintf("the template registered the thing %q, and `thing` in the configuration is %q", thing, s.Thing)}
	}
	return p.prove(ctx)
}

// begin makes sure that there is a new key on disk, unless only the last step of an earlier
// run was missing.
func (p *Provisioner) begin(s Settings, asked bool) error {
	if n := p.next; n != nil && n.Certificate != "" {
		fresh, err := n.pair()
		if err != nil {
			return err
		}
		if p.current != nil && identity.ID(fresh.leaf) == identity.ID(p.current.leaf) { // killed before it was removed
			if err := p.drop(); err != nil || !asked && !p.due(s) {
				return err
			}
		} else if asked && n.Thing != "" && n.Thing != s.Thing {
			p.o.Log.Info("giving up the certificate of another thing", "thing", n.Thing)
			if err := n.restart(); err != nil {
				return err
			}
			p.unsaved = true
		}
	}
	if p.next == nil {
		n, err := newRecord()
		if err != nil {
			return err
		}
		p.next, p.unsaved = n, true
		p.o.Log.Info("making a new key for a new certificate", "first", p.current == nil)
	}
	if p.unsaved {
		return p.save()
	}
	return nil
}

// request gets the certificate, and has the template register the thing.
func (p *Provisioner) request(ctx context.Context, s Settings) error {
	a := Account{Endpoint: s.Endpoint, ClientID: s.ClientID, CA: s.CA, Certificate: s.ClaimCertificate, Key: s.ClaimKey, Template: s.Template, Proxy: s.Proxy, ALPN: s.ALPN}
	if p.current != nil {
		a.Template = s.RenewWith
	}
	claim := p.useClaim()
	if !claim {
		a.Certificate, a.Key = s.Current, s.Current
	}
	session, err := p.o.Open(ctx, a)
	if err == nil {
		err = p.ask(ctx, session, s, a.Template, claim)
		if e := session.Close(); e != nil {
			p.o.Log.Warn("end the connection for provisioning", "err", e)
		}
	} else {
		err = requestFailure("connect", claim, err)
	}
	var f *Failure
	if errors.As(err, &f) && f.refused {
		p.ownRefused = !claim
	}
	return err
}

// useClaim reports whether the next request uses the claim certificate.
func (p *Provisioner) useClaim() bool {
	if p.current == nil {
		return true
	}
	if now := p.o.Clock.Now(); !p.ownRefused && !(now.Synced && now.Wall.After(p.current.leaf.NotAfter)) {
		return false
	}
	return p.o.ClaimExists()
}

// ask makes the requests that are missing. Each answer is on disk before the next request.
func (p *Provisioner) ask(ctx context.Context, session Session, s Settings, template string, claim bool) error {
	if p.next.Certificate == "" {
		if err := p.askCertificate(ctx, session, s, claim); err != nil {
			return err
		}
	}
	return p.askThing(ctx, session, s, template, claim)
}

// askCertificate has a certificate made for the key.
func (p *Provisioner) askCertificate(ctx context.Context, session Session, s Settings, claim bool) error {
	key, err := p.next.key()
	if err != nil {
		return err
	}
	csr, err := identity.NewRequest(key, s.Thing)
	if err != nil {
		return err
	}
	const step = "request a certificate"
	answer, err := session.Call(ctx, createTopic, map[string]string{"certificateSigningRequest": string(csr)})
	if err != nil {
		return requestFailure(step, claim, err)
	}
	var made struct {
		ID          string `json:"certificateId"`
		Certificate string `json:"certificatePem"`
		Token       string `json:"certificateOwnershipToken"`
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return requestFailure(step, claim, fmt.Errorf("the answer is not JSON: %w", err))
	}
	got := *p.next
	got.Certificate, got.ID, got.Token = made.Certificate, made.ID, made.Token
	if _, err := got.pair(); err != nil {
		return requestFailure(step, claim, fmt.Errorf("the answer cannot be used: %w", err))
	}
	if made.Token == "" {
		return requestFailure(step, claim, errors.New("the answer has no certificateOwnershipToken"))
	}
	p.next = &got
	p.o.Log.Info("got a certificate; registering the thing", "certificate_id", made.ID)
	return p.save()
}

// askThing has the template register the thing.
func (p *Provisioner) askThing(ctx context.Context, session Session, s Settings, template string, claim bool) error {
	parameters := s.Parameters
	if parameters == nil {
		parameters = map[string]string{}
	}
	const step = "register the thing"
	answer, err := session.Call(ctx, RegisterTopic(template), map[string]any{"certificateOwnershipToken": p.next.Token, "parameters": parameters})
	var rejected *Rejection
	if errors.As(err, &rejected) && rejected.Code == invalidToken {
		p.o.Log.Info("the ownership token is not accepted; trying whether the certificate is", "message", rejected.Message)
		p.next.InDoubt = true
		return p.save()
	}
	if err != nil {
		return requestFailure(step, claim, err)
	}
	var registered struct {
		Thing string `json:"thingName"`
	}
	if err := json.Unmarshal(answer, &registered); err != nil {
		return requestFailure(step, claim, fmt.Errorf("the answer is not JSON: %w", err))
	}
	p.next.Registered, p.next.Thing = true, registered.Thing
	p.o.Log.Info("the template has registered the thing", "thing", registered.Thing)
	return p.save()
}

// prove has the link use the new pair, and then puts it in the place of the one in use.
func (p *Provisioner) prove(ctx context.Context) error {
	fresh, err := p.next.pair()
	if err != nil {
		return err
	}
	if !p.proven {
		if err := p.o.Try(ctx, fresh.pem, p.current != nil); err != nil {
			return p.unproven(err)
		}
		p.proven = true
	}
	return p.install(fresh)
}

// unproven counts a refusal, and gives the pair up after too many.
func (p *Provisioner) unproven(err error) error {
	f := &Failure{What: fmt.Sprintf("connect with the new certificate: %v", err), Err: err}
	var why *uplink.Explained
	if errors.As(err, &why) {
		f.Hint = why.Hint
	}
	if !errors.Is(err, uplink.ErrTrialRefused) {
		return f
	}
	p.next.Refusals++
	most := maxTrials
	if p.next.InDoubt {
		most = maxDoubtful
	}
	if p.next.Refusals < most {
		return errors.Join(f, p.save())
	}
	p.o.Log.Warn("the new certificate is given up; another one will be requested", "certificate_id", p.next.ID, "refusals", p.next.Refusals)
	return errors.Join(f, p.drop())
}
