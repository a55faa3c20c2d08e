package uplink

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/refresh"
	"fieldpost/daemon/task"
)

const (
	// maxCutOffs is how many attempts of new credentials in a row may end without a
	// CONNACK for a reason that is not theirs, before the old ones are tried: a broker
	// may drop whom it does not know without a word.
	maxCutOffs = 3

	rereadEvery      = time.Minute     // how often files of credentials that are not in use are read again
	readFilesTimeout = 5 * time.Second // for the files, before a connection
)

// rotation gives each connection attempt its credentials. It keeps those that last
// reached a CONNACK until newer ones have, so that a renewal that went wrong does not
// cut the board off. It keeps them in memory only: a private key is copied nowhere.
// Run's goroutine.
type rotation struct {
	files  *CredentialFiles
	own    bool        // the files are nobody else's
	others *task.Group // for what reads them; nil before start
	end    func()      // ends reading them, where own; nil before start

	current      *credentials      // the last that reached a CONNACK
	rejected     [sha256.Size]byte // newer ones that have not reached it
	cutOffs      int               // their attempts that ended for a reason not theirs
	retryCurrent bool              // the current ones are tried next
	reason       *Explained        // why the newer ones did not get through, it seems
	problem      *Explained        // why they are not in use, now that the current ones are

	reread  time.Time       // when the files were last asked for while there is a problem
	reading <-chan struct{} // closed when they have been read
}

// next gives the credentials for the next attempt: the files as they were last read,
// or else the current ones.
func (r *rotation) next() (*credentials, error) {
	fresh, problems := r.files.latest()
	switch {
	case len(problems) > 0 && r.current == nil:
		return nil, unusable(problems)
	case len(problems) > 0:
		r.reason = unusable(problems)
		return r.current, nil
	case r.current == nil || fresh.sum == r.current.sum:
		r.reason, r.retryCurrent = nil, false
		return fresh, nil
	case fresh.sum != r.rejected:
		r.rejected, r.cutOffs, r.retryCurrent, r.reason = fresh.sum, 0, false, nil
	case r.retryCurrent:
		r.retryCurrent = false
		return r.current, nil
	}
	return fresh, nil
}

// accepted says that a connection with these credentials got its CONNACK.
func (r *rotation) accepted(c *credentials) {
	if r.current == nil || c.sum != r.current.sum {
		r.reason = nil
	}
	r.current, r.problem = c, r.reason
}

// failed says that an attempt with these credentials did not get that far, but to the
// TLS handshake at least.
func (r *rotation) failed(c *credentials, why *Explained) {
	if r.current == nil || c.sum == r.current.sum {
		return
	}
	code := why.Code
	if !blamesCredentials(code) {
		if r.cutOffs++; r.cutOffs < maxCutOffs {
			return
		}
		code = string(health.CertificateRejected)
	}
	r.cutOffs, r.retryCurrent = 0, true
	r.reason = &Explained{Code: code, What: "the new certificate does not work, so the one before is still in use: " + why.What, Hint: why.Hint, Err: why.Err}
}

// recheck looks at the files as last read while the current credentials are in use in
// spite of newer ones. It reports whether what is to be said about that has changed.
// New ones that were mended are tried at the next connection.
func (r *rotation) recheck() (changed bool) {
	if r.problem == nil {
		return false
	}
	before := r.problem
	fresh, problems := r.files.latest()
	switch {
	case len(problems) > 0:
		r.problem = unusable(problems)
	case fresh.sum != r.rejected:
		r.problem = nil
	default:
		r.problem = r.reason
	}
	return r.problem == nil || r.problem.Error() != before.Error()
}

// check has the files read again once in a while, where newer credentials are not in
// use. It reports whether what is to be said about that has changed.
func (r *rotation) check(now time.Time) (changed bool) {
	select {
	case <-r.reading:
		r.reading = nil
		changed = r.recheck()
	default:
	}
	if r.problem != nil && now.Sub(r.reread) >= rereadEvery {
		r.reread, r.reading = now, r.files.Refresh()
	}
	return changed
}

// unusable makes an error of problems with the files.
func unusable(problems []Problem) *Explained {
	var all []error
	for _, p := range problems[1:] {
		all = append(all, errors.New(p.File+": "+p.What))
	}
	first := problems[0]
	return &Explained{Code: first.Code, What: first.File + ": " + first.What, Hint: first.Do, Err: errors.Join(all...)}
}

// refreshCredentials has the files read, and waits for that where it takes no more
// than readFilesTimeout.
func (l *Link) refreshCredentials(ctx context.Context) {
	if l.rotation.files.Pending() < refresh.Slow {
		l.await(ctx, readFilesTimeout, l.rotation.files.Refresh(), nil)
	}
}

// checkCredentials looks whether newer credentials that are not in use were mended.
func (l *Link) checkCredentials(now time.Time) {
	if l.rotation.check(now) {
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
}

// start has the files read until stop, where nobody else has them read.
func (r *rotation) start(others *task.Group) {
	r.others = others
	if !r.own {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	files := r.files
	r.others.Go("credential files", func() {
		defer close(done)
		_ = files.Run(ctx) // it gives none
	})
	r.end = func() {
		cancel()
		<-done
	}
}

// stop ends what start began.
func (r *rotation) stop() {
	if r.end != nil {
		r.end()
		r.end = nil
	}
}

// use takes the credentials from files from now on. What is known of credentials is
// kept where the paths are the same; own says that the files are nobody else's.
func (r *rotation) use(files *CredentialFiles, own bool) {
	same := files.paths() == r.files.paths()
	if files == r.files || same && own && r.own {
		return
	}
	r.stop()
	if same {
		r.files, r.own, r.reading = files, own, nil
	} else {
		*r = rotation{files: files, own: own, others: r.others}
	}
	r.start(r.others)
}
