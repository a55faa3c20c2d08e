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

// maxPEM bounds a credential file, in bytes: several times the size of all public authorities
// together.
const maxPEM = 1 << 20

// CredentialFilesConfig names the credential files.
type CredentialFilesConfig struct {
	CA          string // PEM file of root certificates
	Certificate string // PEM file of our certificate (chain)
	Key         string // PEM file of our private key; it may be the same file as Certificate
	// Password is the file with the password for a user name; "" is none. With a password,
	// Certificate and Key may be "", for no certificate.
	Password string
	// Provisioned says that provisioning obtains the certificate and the key. While the file
	// does not exist, the board is not provisioned.
	Provisioned bool
	// Stuck, if set, is called when the files cannot be read because the disk does not
	// answer, and with "" when it answers again. It must not block.
	Stuck func(detail string)
	// Read reads a file; nil is [regular.Read]. For tests.
	Read func(path string, most int64) ([]byte, error)
}

// CredentialFiles reads the credential files. While a program runs nothing else reads them,
// and there is only one read at a time, so a disk that hangs blocks nobody else. Its users
// get what was last read. Any goroutine may call the methods; none of them waits.
type CredentialFiles struct {
	c     CredentialFilesConfig
	value *refresh.Value[*credentialState]
	last  *credentialState // used only by the reading goroutine
}

// credentialState is the content of the files at one moment. It is immutable.
type credentialState struct {
	creds    *credentials
	problems []Problem    // why they cannot be used; empty if they can
	usable   *credentials // the last usable ones, these or earlier ones; nil if there were none yet
}

// NewCredentialFiles returns the reader of these files. It reads them only while
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

// paths returns the paths of the files.
func (f *CredentialFiles) paths() [4]string {
	return [...]string{f.c.CA, f.c.Certificate, f.c.Key, f.c.Password}
}

// Run reads the files whenever somebody calls Refresh, until ctx ends. It then ends soon,
// even if a read hangs. It is called once.
func (f *CredentialFiles) Run(ctx context.Context) error { return f.value.Run(ctx) }

// Refresh reads the files again. The channel is closed when a read that began after this call
// is done.
func (f *CredentialFiles) Refresh() <-chan struct{} { return f.value.Refresh() }

// Expires returns when the certificate expires; of a chain, the first certificate. The time
// comes from the last read. If there is an error the time is zero, unless the disk does not
// answer and the time is known from an earlier read.
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

// slowRead is how long a read may take before it is reported.
const slowRead = time.Second

// Pending returns how long the current read has taken; 0 if there is none.
func (f *CredentialFiles) Pending() time.Duration { return f.value.Pending() }

func (f *CredentialFiles) stuck(d time.Duration) string {
	return fmt.Sprintf("the files cannot be read: the disk has not answered for %v", d.Truncate(time.Second))
}

// latest returns what was last read, and why it cannot be used.
func (f *CredentialFiles) latest() (*credentials, []Problem) {
	if r, ok := f.value.Last(); ok {
		return r.creds, r.problems
	}
	return &credentials{}, []Problem{{Code: string(health.CertificateStuck), File: f.c.Certificate, What: f.stuck(f.value.Pending()),
		Do: "look at the disk that the certificates are on: `dmesg`"}}
}

// Warnings returns problems of the last read that do not prevent the use of the files, one
// line each.
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

// Expiring returns those of the last usable credentials that expire within thirty days of now
// or have expired. A link keeps using them while newer files cannot be used, so they matter
// even then. Empty is the good result; it is also returned while no usable credentials have
// been read, because then no link uses any.
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

// read reads the files. If their content is the same as the last time, it does not parse them
// again.
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

// pemFiles are the contents of the files.
type pemFiles struct {
	from          CredentialFilesConfig
	ca, cert, key []byte // nil if it could not be read
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
	if c.Key == c.Certificate { // one read: with two, one might see a newer file
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
