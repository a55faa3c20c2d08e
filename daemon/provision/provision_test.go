package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable/durabletest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cloud plays AWS IoT and the link, as far as a Provisioner sees them. All that it is told
// must be on the disk of the board already.
type cloud struct {
	t    *testing.T
	ca   *certtest.Authority
	dir  *durabletest.Dir // the board's, at present
	life time.Duration    // of certificates

	mu       sync.Mutex
	opened   []string          // the certificates that sessions were opened with
	serial   int64             // of the last certificate
	requests int               // for certificates
	tokens   map[string]string // certificate ids by token
	active   map[string]bool   // by certificate id
	linked   string            // the certificate id that the link uses; "" is the file's
	thing    string            // that the template registers
	open     func(Account) error
	call     func(topic string) (lost bool, err error) // lost: it takes effect, and there is no answer
	try      func(id string) error
}

func newCloud(t *testing.T) *cloud {
	return &cloud{t: t, ca: certtest.NewAuthority(t, "root", nil), life: 365 * 24 * time.Hour, thing: "thing-7", tokens: map[string]string{}, active: map[string]bool{}}
}

// settings are the same for all tests.
func settings() Settings {
	return Settings{Thing: "thing-7", Endpoint: "broker.test", ClientID: "thing-7-provision", ClaimCertificate: "claim.crt", ClaimKey: "claim.key", Current: currentFile,
		Template: "first", RenewWith: "later", RenewBefore: 30 * 24 * time.Hour, Parameters: map[string]string{"Serial": "7"}}
}

// run is one run of a Provisioner on a board.
type run struct {
	*Provisioner
	failures  chan *Failure
	installed int
	stop      func()
}

// start runs a Provisioner on the board with this disk.
func (c *cloud) start(dir *durabletest.Dir, change func(*Options)) *run {
	c.t.Helper()
	c.mu.Lock()
	c.dir, c.linked = dir, "" // a new process
	c.mu.Unlock()
	r := &run{failures: make(chan *Failure, 1000)}
	o := Options{
		Dir: dir, Settings: settings, Clock: clock.Func(func() clock.Stamp { return clock.Stamp{Wall: time.Now(), Synced: true} }), Log: slog.New(slog.DiscardHandler),
		Open: c.session, Try: c.tryPair, Installed: func() { r.installed++ }, Report: func(f *Failure) { r.failures <- f },
		ClaimExists: func() bool { return true }, Random: func(below time.Duration) time.Duration { return below - 1 },
	}
	if change != nil {
		change(&o)
	}
	r.Provisioner = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(r.stop)
	return r
}

// await lets time pass until the board has a certificate that is active, and nothing is
// begun.
func (c *cloud) await(r *run, dir *durabletest.Dir) *pair {
	c.t.Helper()
	for range 2000 {
		synctest.Wait()
		if dir.Data(nextFile) == nil {
			if got, err := parsePair(dir.Data(currentFile)); err == nil && c.isActive(got) {
				return got
			}
		}
		<-time.After(10 * time.Second)
	}
	c.t.Fatalf("no certificate: files %q, state %s, requests %d", dir.Files("", ""), dir.Data(nextFile), c.count())
	return nil
}

func (c *cloud) isActive(p *pair) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active[identity.ID(p.leaf)]
}

// count returns how many certificates were requested.
func (c *cloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// sessions returns the certificates and templates of all sessions.
func (c *cloud) sessions() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.opened)
}

// with changes what the cloud does while a board runs.
func (c *cloud) with(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// session is Options.Open.
func (c *cloud) session(_ context.Context, a Account) (Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = append(c.opened, a.Certificate+" "+a.Template)
	if c.open != nil {
		if err := c.open(a); err != nil {
			return nil, err
		}
	}
	return calls{c, a}, nil
}

type calls struct {
	c *cloud
	a Account
}

func (s calls) Close() error { return nil }

func (s calls) Call(_ context.Context, topic string, request any) ([]byte, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := false
	if c.call != nil {
		var err error
		if lost, err = c.call(topic); err != nil {
			return nil, err
		}
	}
	var answer any
	var err error
	if topic == createTopic {
		answer, err = c.create(request.(map[string]string)["certificateSigningRequest"])
	} else {
		answer, err = c.register(topic, s.a.Template, request.(map[string]any))
	}
	if err != nil {
		return nil, err
	}
	if lost {
		return nil, errors.New("no answer")
	}
	return json.Marshal(answer)
}

// onDisk is what a power cut would leave of next.json now.
func (c *cloud) onDisk() record {
	c.t.Helper()
	c.dir.Mu.Lock()
	defer c.dir.Mu.Unlock()
	var r record
	f := c.dir.Durable[nextFile]
	if f == nil || f.Good < len(f.B) {
		c.t.Error("nothing is durable before a request")
		return r
	}
	if err := json.Unmarshal(f.B, &r); err != nil {
		c.t.Error(err)
	}
	return r
}

func (c *cloud) create(text string) (any, error) {
	csr, err := identity.ParseRequest([]byte(text))
	if err != nil {
		return nil, &Rejection{400, "InvalidCSR", err.Error()}
	}
	key, err := identity.ParseKey([]byte(c.onDisk().Key))
	if err != nil || !identity.SameKey(key.Public(), csr.PublicKey) {
		c.t.Error("the key of the request is not on disk")
	}
	c.requests++
	c.serial++
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(c.serial), Subject: csr.Subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(c.life),
	}, c.ca.Cert, csr.PublicKey, c.ca.Key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	id, token := identity.ID(leaf), fmt.Sprint("token-", c.serial)
	c.tokens[token] = id
	return map[string]string{"certificateId": id, "certificatePem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "certificateOwnershipToken": token}, nil
}

func (c *cloud) register(topic, template string, request map[string]any) (any, error) {
	disk := c.onDisk()
	token := request["certificateOwnershipToken"].(string)
	if disk.Token != token || disk.Certificate == "" {
		c.t.Error("certificate and token are not on disk")
	}
	if topic != RegisterTopic(template) || !maps.Equal(request["parameters"].(map[string]string), map[string]string{"Serial": "7"}) {
		c.t.Errorf("request to %q: %v", topic, request)
	}
	id, ok := c.tokens[token]
	if !ok {
		return nil, &Rejection{400, invalidToken, "used or expired"}
	}
	delete(c.tokens, token)
	c.active[id] = true
	return map[string]any{"thingName": c.thing, "deviceConfiguration": map[string]string{}}, nil
}

// tryPair is Options.Try.
func (c *cloud) tryPair(ctx context.Context, text []byte, acknowledged bool) error {
	got, err := parsePair(text)
	if err != nil {
		c.t.Errorf("tried what is no pair: %v", err)
		return err
	}
	if had := c.dir.Data(currentFile) != nil; acknowledged != had {
		c.t.Errorf("a PUBACK is wanted: %v, a pair is in use: %v", acknowledged, had)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := identity.ID(got.leaf)
	if c.try != nil {
		if err := c.try(id); err != nil {
			return err
		}
	}
	if !c.active[id] {
		return refusal()
	}
	c.linked = id
	return nil
}

// refusal is what a link says of a pair that the broker does not accept.
func refusal() error {
	return fmt.Errorf("%w: %w", uplink.ErrTrialRefused, &uplink.Explained{Code: string(health.ConnectRefused), What: "refused", Hint: "Look at the policy."})
}

// works reports that a board could connect with what is on this disk, and fails where it
// could once and cannot any more.
func (c *cloud) works(what string, dir *durabletest.Dir, had bool) {
	c.t.Helper()
	if !had {
		return
	}
	got, err := parsePair(dir.Data(currentFile))
	if err != nil || !c.isActive(got) {
		c.t.Errorf("%s: no working pair in %q: %v", what, dir.Files("", ""), err)
	}
}

// A board without anything gets a certificate; the next run has nothing to do.
func TestFirstCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dir := newCloud(t), durabletest.New()
		r := c.start(dir, nil)
		got := c.await(r, dir)
		if got.leaf.Subject.CommonName != "thing-7" || r.installed != 1 || c.count() != 1 || c.sessions() != "[claim.crt first]" {
			t.Errorf("%v, installed %d, %d requests, %q", got.leaf.Subject, r.installed, c.count(), c.sessions())
		}
		if f := <-r.failures; f != nil {
			t.Error(f)
		}
		r.stop()
		c.start(dir, nil)
		<-time.After(100 * time.Hour)
		synctest.Wait()
		if c.count() != 1 || c.sessions() != "[claim.crt first]" || dir.Data(previousFile) != nil {
			t.Errorf("the second run: %d requests, %q", c.count(), c.sessions())
		}
	})
}

// killed stops a board before, or within, each of its operations on the disk: it is killed,
// or loses power. Each time it is started again and has to come to a certificate, and never
// to lose one that works.
func killed(t *testing.T, prepare func(c *cloud) *durabletest.Dir, work func(c *cloud, r *run)) {
	for _, cut := range []bool{false, true} {
		for n := 1; ; n++ {
			over := false
			t.Run(fmt.Sprintf("cut=%v/%d", cut, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCloud(t)
					dir := prepare(c)
					had := dir.Data(currentFile) != nil
					rnd := mathrand.New(mathrand.NewPCG(uint64(n), 1))
					var image *durabletest.Dir
					at, ops := "", 0
					dir.Failing(func(op, name string) error {
						if ops++; ops < n {
							return nil
						}
						if image == nil {
							at = op + " " + name
							if image = dir.KillNow(); cut {
								image = dir.CutNow(rnd)
							}
						}
						return errors.New("dead") // whatever it does from now on is not seen
					})
					r := c.start(dir, nil)
					work(c, r)
					r.stop()
					if image == nil {
						over = true
						return
					}
					c.works(at, image, had)
					got := c.await(c.start(image, nil), image)
					if bytes.Equal(image.Data(previousFile), got.pem) {
						t.Errorf("killed at %s: the pair before is gone", at)
					}
					if c.count() > 3 {
						t.Errorf("killed at %s: %d certificates", at, c.count())
					}
				})
			})
			if over || t.Failed() {
				return
			}
			if n > 200 {
				t.Fatal("it never ends")
			}
		}
	}
}

func TestKilledWhileProvisioning(t *testing.T) {
	killed(t, func(*cloud) *durabletest.Dir { return durabletest.New() }, func(c *cloud, r *run) {
		<-time.After(5 * time.Second)
		synctest.Wait()
	})
}

// renewed returns the disk of a board with a certificate.
func renewed(c *cloud) *durabletest.Dir {
	dir := durabletest.New()
	r := c.start(dir, nil)
	c.await(r, dir)
	r.stop()
	c.with(func() { c.requests, c.opened = 0, nil })
	return dir.Kill()
}

func TestKilledWhileRenewing(t *testing.T) {
	killed(t, renewed, func(c *cloud, r *run) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = r.Renew(ctx) // may fail
	})
}

// Killed while a request is under way: before it, or with its answer lost.
func TestKilledDuringARequest(t *testing.T) {
	for _, topic := range []string{createTopic, RegisterTopic("first")} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(topic, lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, dir := newCloud(t), durabletest.New()
					reached := make(chan struct{})
					once := sync.OnceFunc(func() { close(reached) })
					c.call = func(on string) (bool, error) {
						if on != topic {
							return false, nil
						}
						defer once()
						if !lost {
							return false, errors.New("killed")
						}
						return true, nil
					}
					r := c.start(dir, nil)
					<-reached
					r.stop()
					c.with(func() { c.call = nil })
					image := dir.Kill()
					got := c.await(c.start(image, nil), image)
					if want := map[bool]int{true: 2, false: 1}[lost && topic == createTopic]; c.count() != want {
						t.Errorf("%d certificates, want %d", c.count(), want)
					}
					if !c.isActive(got) {
						t.Error("not active")
					}
				})
			})
		}
	}
}

// The token expires while the board is off: the certificate is tried, given up, and another
// one is made.
func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dir := newCloud(t), durabletest.New()
		c.call = func(topic string) (bool, error) {
			if topic != createTopic {
				clear(c.tokens)
			}
			return false, nil
		}
		trials := map[string]int{}
		c.try = func(id string) error { trials[id]++; return nil }
		r := c.start(dir, nil)
		<-time.After(6 * time.Second)
		synctest.Wait()
		c.with(func() { c.call = nil })
		c.await(r, dir)
		if c.count() != 2 {
			t.Errorf("%d certificates", c.count())
		}
		r.stop()
		for id, n := range trials {
			if want := map[bool]int{true: 1, false: maxDoubtful}[c.active[id]]; n != want {
				t.Errorf("%d trials of a certificate that is active: %v", n, c.active[id])
			}
		}
	})
}

// A renewal that does not succeed is tried some times a day: the present certificate works.
func TestRenewalFailsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		c.call = func(string) (bool, error) { return false, &Rejection{429, "Throttled", "rate"} }
		r := c.start(dir, nil)
		<-time.After(350 * 24 * time.Hour)
		r.stop()
		if n := len(c.opened); n < 15*4 || n > 20*5 {
			t.Errorf("%d attempts in the 15 to 18 days since it is due", n)
		}
	})
}

// A renewal: the present certificate asks, the old pair is kept, and the renewal is made in
// time and only once.
func TestRenewalWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		r := c.start(dir, nil)
		old := c.await(r, dir)
		<-time.After(330 * 24 * time.Hour)
		synctest.Wait()
		if c.count() != 0 {
			t.Fatal("renewed too early")
		}
		<-time.After(10 * 24 * time.Hour)
		fresh := c.await(r, dir)
		if c.count() != 1 || !bytes.Equal(dir.Data(previousFile), old.pem) || bytes.Equal(fresh.pem, old.pem) || c.sessions() != "[current.pem later]" {
			t.Errorf("%d requests by %q", c.count(), c.sessions())
		}
		if identity.SameKey(fresh.leaf.PublicKey, old.leaf.PublicKey) {
			t.Error("the key is the old one")
		}
	})
}

// A certificate that is valid for minutes is renewed in time, again and again.
func TestShortLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dir := newCloud(t), durabletest.New()
		c.life = 9 * time.Minute
		r := c.start(dir, nil)
		c.await(r, dir)
		for range 60 {
			<-time.After(time.Minute)
			synctest.Wait()
			if got, err := parsePair(dir.Data(currentFile)); err != nil || time.Now().After(got.leaf.NotAfter) {
				t.Fatalf("%v, it is %v", err, time.Now())
			}
		}
		if n := c.count(); n < 9 || n > 14 {
			t.Errorf("%d certificates in an hour", n)
		}
	})
}

// While the clock is not known to be true nothing is renewed by its date.
func TestNoRenewalByAWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		var synced bool
		var mu sync.Mutex
		r := c.start(dir, func(o *Options) {
			o.Clock = clock.Func(func() clock.Stamp {
				mu.Lock()
				defer mu.Unlock()
				return clock.Stamp{Wall: time.Now().AddDate(20, 0, 0), Synced: synced}
			})
		})
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if c.count() != 0 {
			t.Error("renewed by a clock that nobody has set")
		}
		mu.Lock()
		synced = true
		mu.Unlock()
		<-time.After(2 * time.Hour)
		c.await(r, dir)
		if n := c.count(); n == 0 || n > 4 || !strings.HasPrefix(c.sessions(), "[claim.crt later") { // the present one has expired by then
			t.Errorf("%d requests by %q", c.count(), c.sessions())
		}
	})
}

// A new certificate that the broker does not accept is given up after some trials; the old
// one stays, and later another one is made. Whoever waits is told at the first failure.
func TestRenewalRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		old := bytes.Clone(dir.Data(currentFile))
		trials := map[string]int{}
		last := time.Time{}
		c.try = func(id string) error {
			if gap := time.Since(last); !last.IsZero() && gap < tryWait {
				t.Errorf("a trial %v after the one before", gap)
			}
			last = time.Now()
			trials[id]++
			return refusal()
		}
		r := c.start(dir, nil)
		var f *Failure
		if err := r.Renew(t.Context()); !errors.As(err, &f) || f.Code != health.RenewalFailed || f.Hint != "Look at the policy." {
			t.Errorf("got %v", err)
		}
		<-time.After(100 * time.Hour)
		synctest.Wait()
		c.mu.Lock()
		for id, n := range trials {
			if n > maxTrials {
				t.Errorf("%d trials of %s", n, id)
			}
		}
		if len(trials) > 1 {
			t.Errorf("%d certificates, though none was due", len(trials))
		}
		c.try = nil
		c.mu.Unlock()
		if !bytes.Equal(dir.Data(currentFile), old) || dir.Data(nextFile) != nil {
			t.Errorf("files %q", dir.Files("", ""))
		}
		if err := r.Renew(t.Context()); err != nil || bytes.Equal(dir.Data(currentFile), old) || !bytes.Equal(dir.Data(previousFile), old) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// The broker does not let the present certificate ask: the claim certificate does, where
// there is one, and the present one is tried again after that.
func TestRenewalByTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		c.open = func(a Account) error {
			if a.Certificate == currentFile {
				return &DeniedError{Topic: createTopic + "/accepted"}
			}
			return nil
		}
		r := c.start(dir, nil)
		var f *Failure
		if err := r.Renew(t.Context()); !errors.As(err, &f) || !strings.Contains(f.Hint, "policy of this board's certificate") {
			t.Errorf("got %v, %+v", err, f)
		}
		if err := r.Renew(t.Context()); err != nil {
			t.Error(err)
		}
		if got := c.sessions(); got != "[current.pem later claim.crt later]" {
			t.Error(got)
		}
		r.stop()
		c.with(func() { c.opened = nil })
		r = c.start(dir, func(o *Options) { o.ClaimExists = func() bool { return false } })
		for range 2 {
			if err := r.Renew(t.Context()); err == nil {
				t.Error("renewed")
			}
		}
		if got := c.sessions(); got != "[current.pem later current.pem later]" {
			t.Error(got)
		}
	})
}

// The template registers another thing: the pair is not used, no other is made, and it is
// given up on demand only.
func TestAnotherThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dir := newCloud(t), durabletest.New()
		c.with(func() { c.thing = "thing-8" })
		r := c.start(dir, nil)
		f := <-r.failures
		if f == nil || f.Code != health.ThingMismatch || !strings.Contains(f.What, `"thing-8"`) || !strings.Contains(f.What, `"thing-7"`) {
			t.Fatalf("%+v", f)
		}
		<-time.After(100 * time.Hour)
		synctest.Wait()
		if c.count() != 1 || dir.Data(currentFile) != nil {
			t.Errorf("%d requests", c.count())
		}
		r.stop()
		again := dir.Kill()
		r = c.start(again, nil) // that it is another thing's is still known
		if f := <-r.failures; f == nil || f.Code != health.ThingMismatch || again.Data(currentFile) != nil {
			t.Errorf("after a restart: %+v", f)
		}
		r.stop()
		image := dir.Kill()
		other := c.start(image, func(o *Options) {
			o.Settings = func() Settings { s := settings(); s.Thing = "thing-8"; return s }
		})
		c.await(other, image) // the configuration was changed
		if c.count() != 1 {
			t.Errorf("%d requests", c.count())
		}
		other.stop()
		c.with(func() { c.thing = "thing-7" }) // the template was
		r = c.start(dir, nil)
		synctest.Wait()
		if err := r.Renew(t.Context()); err != nil || c.count() != 2 {
			t.Errorf("%v, %d requests", err, c.count())
		}
		c.await(r, dir)
	})
}

// What the API rejects is said with what to do, and tried again ever more seldom; a
// certificate that was made is not made again.
func TestRejections(t *testing.T) {
	for _, tc := range []struct {
		topic    string
		err      error
		hint     string
		requests int
	}{
		{createTopic, &Rejection{429, "Throttled", "rate"}, "Nothing needs to be done", 0},
		{RegisterTopic("first"), &Rejection{400, "InvalidParameters", "Serial"}, "its parameters", 1},
		{RegisterTopic("first"), &Rejection{403, "AccessDenied", "hook"}, "pre-provisioning hook", 1},
		{RegisterTopic("first"), &Rejection{500, "InternalFailure", "x"}, "problem of its own", 1},
		{createTopic, &DeniedError{Topic: createTopic}, "$aws/certificates/create-from-csr/*. The one that AWS's developer guide prints allows only", 0},
		{RegisterTopic("first"), &DeniedError{Topic: RegisterTopic("first")}, "fieldpost policy generate --claim", 1},
		{createTopic, &uplink.Explained{Code: string(health.ConnectRefused), What: "x", Hint: "See."}, "See. `fieldpost policy generate --claim`", 0},
		{createTopic, errors.New("no answer within 45s"), "", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, dir := newCloud(t), durabletest.New()
			calls := 0
			c.call = func(topic string) (bool, error) {
				if topic != tc.topic {
					return false, nil
				}
				calls++
				return false, tc.err
			}
			r := c.start(dir, nil)
			<-time.After(10 * time.Hour)
			synctest.Wait()
			f := <-r.failures
			if f == nil || f.Code != health.ProvisioningFailed || !strings.Contains(f.Hint, tc.hint) || !strings.Contains(f.What, "with the claim certificate: "+tc.err.Error()) {
				t.Errorf("%v: %+v", tc.err, f)
			}
			if calls < 30 || calls > 60 || c.count() != tc.requests {
				t.Errorf("%v: %d calls, %d certificates in 10 h", tc.err, calls, c.count())
			}
			c.with(func() { c.call = nil })
			c.await(r, dir)
		})
	}
}

// A disk that takes nothing stops the work before anything is sent that would be lost; once
// it takes something again the work goes on.
func TestDiskFull(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "rename", "syncdir", "remove"} {
		for _, renew := range []bool{false, true} {
			t.Run(fmt.Sprint(op, renew), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCloud(t)
					dir := durabletest.New()
					if renew {
						dir = renewed(c)
					}
					for skip := range 6 { // writes that succeed before
						n := 0
						dir.Failing(func(o, _ string) error {
							if o != op {
								return nil
							}
							if n++; n > skip {
								return errors.New("no space left on device")
							}
							return nil
						})
						r := c.start(dir, nil)
						if renew {
							ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
							_ = r.Renew(ctx)
							cancel()
						}
						<-time.After(time.Hour)
						synctest.Wait()
						c.works(op, dir, renew)
						if c.count() > 2 {
							t.Fatalf("%d certificates", c.count())
						}
						dir.Failing(nil)
						c.await(r, dir)
						r.stop()
						if !renew {
							c.with(func() { c.requests = 0 })
							dir = durabletest.New()
						} else {
							c.with(func() { c.requests = 0 })
						}
					}
				})
			})
		}
	}
}

// Files that are damaged cost no more than what was in them: the previous pair takes the
// place of one that cannot be read, and what was begun is forgotten.
func TestDamagedFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		r := c.start(dir, nil)
		if err := r.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.stop()
		previous := dir.Data(previousFile)
		dir.Put(currentFile, dir.Data(currentFile)[:100])
		dir.Put(nextFile, []byte("{"))
		dir.Put(nextFile+".tmp", []byte("a key"))
		c.with(func() { c.requests = 0 })
		r = c.start(dir, nil)
		got := c.await(r, dir)
		if c.count() != 0 || !bytes.Equal(got.pem, previous) {
			t.Errorf("%d requests", c.count())
		}
		if left := dir.Files("", ".tmp"); left != nil {
			t.Errorf("left behind: %q", left)
		}
		r.stop()
		dir.Put(currentFile, nil)
		dir.Put(previousFile, got.pem)
		r = c.start(dir, nil)
		if again := c.await(r, dir); !bytes.Equal(again.pem, got.pem) || r.installed != 1 {
			t.Error("the previous pair is not in use")
		}
	})
}

// Those who ask at the same time get the answer of one attempt.
func TestRenewTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		dir := renewed(c)
		r := c.start(dir, nil)
		synctest.Wait()
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- r.Renew(t.Context()) }()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
		if c.count() > 2 {
			t.Errorf("%d requests", c.count())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Renew(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// Boards that were provisioned together do not all renew at the same moment, and a short
// life is used to two thirds at least.
func TestRenewAt(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	days := func(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }
	seen := map[time.Time]bool{}
	for n := range int64(100) {
		serial := new(big.Int).Mul(big.NewInt(n+1), big.NewInt(0x1234567890abcd))
		at := RenewAt(&x509.Certificate{SerialNumber: serial, NotBefore: start, NotAfter: start.Add(days(365))}, days(30))
		if left := start.Add(days(365)).Sub(at); left > days(30) || left < days(27) {
			t.Errorf("%v before the end", left)
		}
		seen[at] = true
		short := RenewAt(&x509.Certificate{SerialNumber: serial, NotBefore: start, NotAfter: start.Add(days(9))}, days(30))
		if age := short.Sub(start); age < days(6) || age > days(7) {
			t.Errorf("a certificate of 9 days after %v", age)
		}
	}
	if len(seen) < 90 {
		t.Errorf("%d different times for 100 boards", len(seen))
	}
}
