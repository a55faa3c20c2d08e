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
	// maxCutOffs is how many attempts with new credentials in a row may end without a
	// CONNACK, for another reason than the credentials, before the old ones are tried: a
	// broker may disconnect unknown clients without a reason.
	maxCutOffs = 3

	rereadEvery      = time.Minute     // how often the files are read again while newer credentials are not in use
	readFilesTimeout = 5 * time.Second // how long a connection waits for the files
)

// rotation chooses the credentials of each connection attempt. It keeps those that last
// reached a CONNACK until newer ones have reached one, so that a failed renewal does not cut
// the board off. It keeps them only in memory: a private key is copied nowhere. Only Run's
// goroutine uses it.
type rotation struct {
	files  *CredentialFiles
	own    bool        // the link itself reads the files
	others *task.Group // for the goroutine that reads the files; nil before start
	end    func()      // stops reading the files, if own; nil before start

	current      *credentials      // the last that reached a CONNACK
	rejected     [sha256.Size]byte // newer ones that have not reached a CONNACK
	cutOffs      int               // attempts with them that ended for another reason
	retryCurrent bool              // the current ones are tried next
	reason       *Explained        // the probable reason why the newer ones failed
	problem      *Explained        // why the newer ones are not in use; set while the current ones are

	reread  time.Time       // when the files were last asked for while there is a problem
	reading <-chan struct{} // closed when they have been read
}

// next returns the credentials for the next attempt: the files as they were last read, or
// else the current ones.
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

// accepted records that a connection with these credentials has received its CONNACK.
func (r *rotation) accepted(c *credentials) {
	if r.current == nil || c.sum != r.current.sum {
		r.reason = nil
	}
	r.current, r.problem = c, r.reason
}

// failed records that an attempt with these credentials reached the TLS handshake but not a
// CONNACK.
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
	r.reason = &Explained{Code: code, What: "the new certificate does not work, so the old one is still in use: " + why.What, Hint: why.Hint, Err: why.Err}
}

// recheck checks the files as last read while the current credentials are used instead of
// newer ones. It reports whether the problem to report has changed. If the files were
// corrected, the next connection tries them.
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

// check reads the files again at intervals while newer credentials are not in use. It reports
// whether the problem to report has changed.
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

// refreshCredentials reads the files, and waits for that for at most readFilesTimeout.
func (l *Link) refreshCredentials(ctx context.Context) {
	if l.rotation.files.Pending() < refresh.Slow {
		l.await(ctx, readFilesTimeout, l.rotation.files.Refresh(), nil)
	}
}

// checkCredentials checks whether newer credentials that are not in use were corrected.
func (l *Link) checkCredentials(now time.Time) {
	if l.rotation.check(now) {
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
}

// start reads the files until stop, unless somebody else reads them.
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
		_ = files.Run(ctx) // returns no error
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

// use uses the credentials of files from now on. What is known about credentials is kept if
// the paths are the same. own says that the link itself reads the files.
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
