package uplink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/refresh"
	"fieldpost/daemon/regular"
)

// maxPEM is the most that is read of a file of credentials, in bytes: several
// times what all public authorities take together.
const maxPEM = 1 << 20

// CredentialFilesConfig says where the credentials are.
type CredentialFilesConfig struct {
	CA          string // PEM file of root certificates
	Certificate string // PEM file of our certificate (chain)
	Key         string // PEM file of our private key; it may be the same file as Certificate
	// Password is the file of the password that goes with a user name; "" is none. Then
	// Certificate and Key may be "" too: then there is no certificate.
	Password string
	// Provisioned says that the certificate and the key come by provisioning. As long as
	// there is no such file, the board is not provisioned.
	Provisioned bool
	// Stuck, where it is not nil, is told when the files cannot be read because
	// the disk does not answer, and "" when it does again. It must not block.
	Stuck func(detail string)
	// Read reads a file; nil is [regular.Read]. For tests.
	Read func(path string, most int64) ([]byte, error)
}

// CredentialFiles owns the files of the credentials: it alone reads them while a program
// runs, one read at a time, so that a disk that hangs holds up nobody else.
// Whoever needs them has what was read last. Its methods may be called from any
// goroutine, and none waits.
type CredentialFiles struct {
	c     CredentialFilesConfig
	value *refresh.Value[*credentialState]
	last  *credentialState // of the goroutine that reads
}

// credentialState is what the files held at one moment. It is not changed any more.
type credentialState struct {
	creds    *credentials
	problems []Problem    // why they cannot be used; none: they can
	usable   *credentials // the last that could be, these or earlier ones; nil: none yet
}

// NewCredentialFiles makes the owner of these files. It reads them while
// [CredentialFiles.Run] runs.
func NewCredentialFiles(c CredentialFilesConfig) *CredentialFiles {
	if c.Read == nil {
		c.Read = regular.Read
	}
	f := &CredentialFiles{c: c}
	f.value = refresh.New(f.read, func(d time.Duration) {
		switch {
		case c.Stuck == nil:
		case d == 0:
			c.Stuck("")
		default:
			c.Stuck(f.stuck(d))
		}
	})
	return f
}

// paths gives the paths of the files.
func (f *CredentialFiles) paths() [4]string {
	return [...]string{f.c.CA, f.c.Certificate, f.c.Key, f.c.Password}
}

// Run reads the files whenever somebody has asked for that, until ctx ends, and
// ends soon then though a read hangs. It is called once.
func (f *CredentialFiles) Run(ctx context.Context) error { return f.value.Run(ctx) }

// Refresh reads the files again. What is given is closed when a read that began after
// this call is done.
func (f *CredentialFiles) Refresh() <-chan struct{} { return f.value.Refresh() }

// Expires gives when the certificate ends; of a chain, the first. It is as was
// read last. With an error the time is zero, unless only what was read last is
// known, for the disk does not answer.
func (f *CredentialFiles) Expires() (time.Time, error) {
	r, ok := f.value.Last()
	waits := f.value.Pending()
	var err error
	if waits >= slowRead || !ok {
		err = errors.New(f.stuck(waits))
	}
	if !ok {
		return time.Time{}, err
	}
	if r.creds.leaf != nil {
		return r.creds.leaf.NotAfter.UTC(), err
	}
	for _, p := range r.problems {
		if p.File == f.c.Certificate {
			return time.Time{}, fmt.Errorf("read certificate %q: %s", p.File, p.What)
		}
	}
	return time.Time{}, err
}

// slowRead is how long a read takes before whoever asks is told of it.
const slowRead = time.Second

// Pending gives for how long the files have been read without an end; 0 where
// they are not being read.
func (f *CredentialFiles) Pending() time.Duration { return f.value.Pending() }

func (f *CredentialFiles) stuck(d time.Duration) string {
	return fmt.Sprintf("the files cannot be read: the disk has not answered for %v", d.Truncate(time.Second))
}

// latest gives what was read last, and why it cannot be used.
func (f *CredentialFiles) latest() (*credentials, []Problem) {
	if r, ok := f.value.Last(); ok {
		return r.creds, r.problems
	}
	return &credentials{}, []Problem{{Code: string(health.CertificateStuck), File: f.c.Certificate, What: f.stuck(f.value.Pending()),
		Do: "look at the disk that the certificates are on: `dmesg`"}}
}

// Warnings gives what is wrong with the files as they were last read that does
// not prevent their use, a line each.
func (f *CredentialFiles) Warnings() (lines []string) {
	r, ok := f.value.Last()
	if !ok {
		return nil
	}
	for _, p := range r.creds.warnings {
		lines = append(lines, p.String())
	}
	return lines
}

// Expiring gives what of the credentials that could be used last ends within thirty
// days of now, or has ended: a link keeps those while what was put in their
// place cannot be used, and they end all the same. None is the good answer; it
// is also given while none have been seen, for then there is no link that could
// end.
func (f *CredentialFiles) Expiring(now time.Time) (ends []Problem) {
	r, ok := f.value.Last()
	if !ok || r.usable == nil {
		return nil
	}
	for _, p := range checkDates(f.c.CA, f.c.Certificate, r.usable, now) {
		if p.Code != string(health.CertificateExpiring) {
			continue
		}
		if len(r.problems) > 0 {
			p.What += "; what is there now cannot be used: " + r.problems[0].File + ": " + r.problems[0].What
		}
		ends = append(ends, p)
	}
	return ends
}

// read reads the files. What holds the same as the last time is not parsed again.
func (f *CredentialFiles) read() *credentialState {
	p := readPEMs(f.c)
	if f.last != nil && len(f.last.problems) == 0 && len(p.problems) == 0 && f.last.creds.sum == p.sum {
		return f.last
	}
	r := &credentialState{}
	r.creds, r.problems = p.parse()
	switch {
	case len(r.problems) == 0:
		r.usable = r.creds
	case f.last != nil:
		r.usable = f.last.usable
	}
	f.last = r
	return r
}

// pemFiles are the texts of the files.
type pemFiles struct {
	from          CredentialFilesConfig
	ca, cert, key []byte // nil where it could not be read
	password      []byte
	problems      []Problem
	sum           [sha256.Size]byte // of them all
}

func readPEMs(c CredentialFilesConfig) pemFiles {
	p := pemFiles{from: c}
	sum := sha256.New()
	read := func(file, is string) []byte {
		data, err := c.Read(file, maxPEM)
		if c.Provisioned && (file == c.Certificate || file == c.Key) && errors.Is(err, fs.ErrNotExist) {
			p.problems = append(p.problems, Problem{Code: string(health.NotProvisioned), File: file, What: "this board has no certificate of its own yet", Do: "nothing needs to be done if it comes soon; otherwise see the fault `provisioning_failed`"})
			return nil
		}
		if err != nil {
			p.problems = append(p.problems, fileProblem(file, is+" cannot be read: "+reason(err), unreadable(err)))
			return nil
		}
		fmt.Fprintf(sum, "%d,", len(data))
		sum.Write(data)
		return data
	}
	p.ca = read(c.CA, "root certificate")
	if c.Password != "" {
		p.password = read(c.Password, "password")
	}
	if c.Certificate == "" {
		sum.Sum(p.sum[:0])
		return p
	}
	p.cert = read(c.Certificate, "certificate")
	if c.Key == c.Certificate { // of two reads one could be of a newer file
		p.key = p.cert
	} else {
		p.key = read(c.Key, "private key")
	}
	sum.Sum(p.sum[:0])
	return p
}

func fileProblem(file, what, do string) Problem {
	return Problem{Code: string(health.CertificateUnusable), File: file, What: what, Do: do}
}
