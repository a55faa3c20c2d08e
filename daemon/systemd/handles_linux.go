package systemd

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// managerPatience is how long systemd may take to process a message.
const managerPatience = 5 * time.Second

// maxHandleName is the longest FDNAME, sd_notify(3).
const maxHandleName = 255

// StoreHandles passes each file to systemd, under its name. It returns when systemd has
// processed all of them; then the files may be closed. It continues after an error; the
// returned error names each file that could not be sent. systemd does not say when it drops
// files above FileDescriptorStoreMax=.
//
// The error wraps [ErrNoManager] if systemd does not run this process.
func StoreHandles(names []string, files []*os.File) error {
	if len(names) != len(files) {
		return fmt.Errorf("store handles: %d names for %d files", len(names), len(files))
	}
	m, err := dialManager()
	if err != nil {
		return fmt.Errorf("store handles: %w", err)
	}
	defer m.close()
	var errs []error
	for i, f := range files {
		if err := m.store(names[i], f); err != nil {
			errs = append(errs, fmt.Errorf("store handle %q: %w", names[i], err))
		}
	}
	if err := m.barrier(); err != nil {
		errs = append(errs, fmt.Errorf("store handles: %w", err))
	}
	return errors.Join(errs...)
}

// RemoveHandle makes systemd close every file that it stores under that name. It returns
// when that is done. It is no error if there was none.
//
// The error wraps [ErrNoManager] if systemd does not run this process.
func RemoveHandle(name string) error {
	if err := checkHandleName(name); err != nil {
		return fmt.Errorf("remove handle %q: %w", name, err)
	}
	m, err := dialManager()
	if err != nil {
		return fmt.Errorf("remove handle %q: %w", name, err)
	}
	defer m.close()
	if err := m.send("FDSTOREREMOVE=1\nFDNAME="+name, -1); err != nil {
		return fmt.Errorf("remove handle %q: %w", name, err)
	}
	if err := m.barrier(); err != nil {
		return fmt.Errorf("remove handle %q: %w", name, err)
	}
	return nil
}

// InheritedHandles returns the files that systemd passed to this process, by name. It
// removes LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID from the environment, so that it returns
// them only once and no child process takes them for its own. Of several files with one name
// it returns the first and closes the others. The map is empty if there are none.
func InheritedHandles() map[string]*os.File {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, key := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(key)
	}
	handles := map[string]*os.File{}
	n, err := strconv.Atoi(fds)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return handles
	}
	named := strings.Split(names, ":")
	for i := range min(n, 4096) {
		fd := 3 + i // SD_LISTEN_FDS_START
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			continue // not open: the environment is wrong
		}
		name := "unknown" // what systemd calls one without a name
		if i < len(named) && named[i] != "" {
			name = named[i]
		}
		f := os.NewFile(uintptr(fd), name)
		if _, taken := handles[name]; taken {
			f.Close()
			continue
		}
		handles[name] = f
	}
	return handles
}

// manager is a connection to systemd's notification socket.
type manager struct {
	fd int
	to *unix.SockaddrUnix
}

func dialManager() (*manager, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	switch {
	case path == "":
		return nil, ErrNoManager
	case path[0] != '/' && path[0] != '@':
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: want a path, or @ and an abstract name", path)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	patience := unix.NsecToTimeval(int64(managerPatience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return nil, errors.Join(fmt.Errorf("limit wait on socket: %w", err), unix.Close(fd))
	}
	return &manager{fd, &unix.SockaddrUnix{Name: path}}, nil
}

func (m *manager) close() { unix.Close(m.fd) }

// send sends a message; attached is a file descriptor, or -1 for none.
func (m *manager) send(text string, attached int) error {
	var rights []byte
	if attached >= 0 {
		rights = unix.UnixRights(attached)
	}
	for {
		err := unix.Sendmsg(m.fd, []byte(text), rights, m.to, unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		}
		return fmt.Errorf("send to %q: %w", m.to.Name, err)
	}
}

func (m *manager) store(name string, f *os.File) error {
	if err := checkHandleName(name); err != nil {
		return err
	}
	if f == nil {
		return errors.New("no file")
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) {
		sent = m.send("FDSTORE=1\nFDNAME="+name, int(fd))
	}); err != nil {
		return err
	}
	return sent
}

// barrier waits until systemd has processed everything that was sent before.
func (m *manager) barrier() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	err := m.send("BARRIER=1", pipe[1])
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	end := time.Now().Add(managerPatience)
	for {
		left := int(math.Ceil(float64(time.Until(end)) / float64(time.Millisecond)))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe[0])}}, max(left, 0))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for systemd: %w", err)
		case n == 0:
			return fmt.Errorf("wait for systemd: no sign of it for %s", managerPatience)
		}
		return nil
	}
}

// checkHandleName returns an error if systemd does not accept the name.
func checkHandleName(name string) error {
	if name == "" || len(name) > maxHandleName {
		return fmt.Errorf("want a name of 1 to %d characters", maxHandleName)
	}
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' || c == ':' {
			return errors.New("want a name of printable ASCII without a colon")
		}
	}
	return nil
}
