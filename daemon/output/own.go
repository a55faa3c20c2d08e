package output

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

// ErrOwned is the reason when the crash record belongs to a daemon that runs.
var ErrOwned = errors.New("another fieldpost runs with it")

// Own makes the crash record at path this process's, until the closer is
// closed or the process ends, in whatever way. It comes before [TakeOver]:
// two daemons with one record would each take the other's lines out of it, and
// after a crash nobody would make them safe. The error wraps [ErrOwned] when
// another process owns it.
//
// The lock is on a file beside the record that nobody else may open, so that no
// other user can keep the daemon from starting.
//
// `fieldpost safe` does not ask for it: it must work beside a daemon that
// cannot be killed.
func Own(path string) (io.Closer, error) {
	f, err := regular.OpenUnlinked(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("own crash record: %w", err)
	}
	switch err := durable.Lock(f); {
	case errors.Is(err, durable.ErrLocked):
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("own crash record in %q: %w\nstop that one (systemctl stop fieldpost), or give this one a directory of its own in RUNTIME_DIRECTORY", filepath.Dir(path), ErrOwned)
	case err != nil:
		return nil, errors.Join(fmt.Errorf("own crash record %q: %w", path, err), f.Close())
	}
	return f, nil
}
