package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/wake"
)

// trialAckTimeout is how long a connection with a pair on trial may last without a PUBACK.
const trialAckTimeout = time.Minute

// trialFile is the name of the pair on trial in messages.
const trialFile = "the new certificate"

// ErrTrialRefused is wrapped by the error of [Link.Try] if the broker does not accept the pair.
var ErrTrialRefused = errors.New("the broker does not accept the new certificate")

// errTrialInterrupted ends a trial because another connection was asked for.
var errTrialInterrupted = errors.New("another connection was asked for before the new certificate was accepted")

// Try makes the next connection with another certificate and key, and keeps using them if the
// broker accepts them: with a CONNACK, and if acknowledged is set also with a PUBACK.
// Otherwise the connection after that uses the files again, immediately. An open connection
// is first closed in order, so no will is published and no message is lost. Nothing is
// written to disk.
//
// pair is PEM: the key and the certificate (chain), as they will be in the file that
// [CredentialFilesConfig] names for both. The roots are read from their file.
//
// Try returns nil if the broker accepts the pair. If it does not, the error wraps
// [ErrTrialRefused] and an [*Explained] that says why. Other errors mean that nothing was
// found out: the pair cannot be used, the broker was not reached, or ctx ended. Any
// goroutine, one call at a time. If the link is not running, Try returns only when ctx ends.
func (l *Link) Try(ctx context.Context, pair []byte, acknowledged bool) error {
	files := l.reconfigurations.config().Files.c
	read := files.Read
	files.Certificate, files.Key = trialFile, trialFile
	files.Read = func(path string, most int64) ([]byte, error) {
		switch {
		case path == trialFile:
			return pair, nil
		case read == nil:
			return regular.Read(path, most)
		}
		return read(path, most)
	}
	creds, problems := readPEMs(files).parse()
	if len(problems) > 0 {
		return unusable(problems)
	}
	t := &trial{creds: creds, acknowledged: acknowledged, done: make(chan error, 1)}
	l.trials.add(t)
	select {
	case err := <-t.done:
		return err
	case <-ctx.Done():
		l.trials.withdraw(t)
		return ctx.Err()
	}
}

// trial is a call of Try.
type trial struct {
	creds        *credentials
	acknowledged bool       // a PUBACK is required too
	done         chan error // has room for the outcome
}

// trials hold the pair that waits for its connection, and the signal to the link. Any
// goroutine.
type trials struct {
	wake wake.Signal // set while there is one

	mu      sync.Mutex
	waiting *trial
}

// add makes t the next trial.
func (x *trials) add(t *trial) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = t
	x.wake.Set()
}

// withdraw removes t if it has not begun yet.
func (x *trials) withdraw(t *trial) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting == t {
		x.waiting = nil
		x.wake.Clear()
	}
}

// takeNext removes and returns the pair for the next connection; nil is none.
func (x *trials) takeNext() (t *trial) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t, x.waiting = x.waiting, nil
	x.wake.Clear()
	return t
}

// passTrial records that the broker accepts the pair on trial. From now on the connection is
// like any other.
func (c *connection) passTrial() {
	c.link.rotation.accepted(c.creds)
	c.trial.done <- nil
	c.trial = nil
}

// checkTrial checks whether the broker has acknowledged anything on a connection with a pair
// on trial. If it does not do so in time, the connection is ended in order.
func (c *connection) checkTrial(now time.Time) {
	switch {
	case c.trial == nil:
	case c.publisher.acked > 0:
		c.passTrial()
	case now.Sub(c.up) >= trialAckTimeout:
		c.reconnect = true
	}
}

// failTrial returns to Try what ended the connection of its trial. What is known about the
// broker does not change, because this connection had other credentials.
func (l *Link) failTrial(ctx context.Context, c *connection, err error) {
	t := c.trial
	c.trial = nil
	if ctx.Err() != nil {
		t.done <- ctx.Err()
		return
	}
	now := time.Now()
	end := l.describeEnd(c, now)
	end.Repeated = c.exchange.phase == Connecting || c.exchange.phase == Subscribing
	why := Explain(err, end)
	if errors.Is(err, errReconnect) {
		if now.Sub(c.up) < trialAckTimeout {
			t.done <- errTrialInterrupted
			return
		}
		why = explained(health.NoAcknowledgement, "On AWS IoT Core the policy of the new certificate must allow iot:Publish on the topics of this board.",
			"the broker acknowledged nothing within %v", trialAckTimeout)
	}
	var outcome error = why
	switch health.Code(why.Code) {
	case health.ServerUntrusted, health.ClockWrong, health.TLSTooOld, health.CertificateUnusable:
	default:
		if c.exchange.phase != Dialing {
			outcome = fmt.Errorf("%w: %w", ErrTrialRefused, why)
		}
	}
	l.cfg.Log.Warn("the new certificate is not in use", "code", why.Code, "error", why.Error(), "hint", why.Hint, "endpoint", l.cfg.Endpoint, "client_id", l.cfg.ClientID)
	t.done <- outcome
}
