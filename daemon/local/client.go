package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Errors of [Do] besides the daemon's own, which is an [*Error].
var (
	// ErrNotRunning is the reason when no daemon listens on the socket. Nothing
	// was asked.
	ErrNotRunning = errors.New("no daemon answers")
	// ErrDenied is the reason when this user may not connect. Nothing was asked.
	ErrDenied = errors.New("permission denied")
	// ErrNoAnswer is the reason when the daemon was asked and ended, or did not
	// answer in time: whether it has done what it was asked is not known.
	ErrNoAnswer = errors.New("no answer came")
)

// Do calls the daemon whose socket is at path, with what the call takes, nil
// for nothing, and puts the answer into result, a pointer. It waits until ctx
// ends. Any goroutine.
func Do(ctx context.Context, path, call string, with, result any) error {
	request, err := marshal(struct {
		Version int    `json:"v"`
		Call    string `json:"call"`
		With    any    `json:"with,omitempty"`
	}{Version, call, with})
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	for pause := busyFirst; ; pause *= 2 {
		err = ask(ctx, path, append(request, '\n'), result)
		var said *Error
		if !errors.As(err, &said) || said.Code != Busy || pause > busyLast {
			return err
		}
		wait(ctx, pause) // nothing was done
	}
}

// A daemon that is busy is asked again for about a second and a half.
const (
	busyFirst = 50 * time.Millisecond
	busyLast  = 800 * time.Millisecond
)

// ask makes one connection and one call.
func ask(ctx context.Context, path string, request []byte, result any) error {
	c, err := dial(ctx, path)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	raw, err := exchange(c, request)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("ask the daemon at %q: %w: %w", path, ErrNoAnswer, err)
	}
	return understand(raw, result)
}

// dial connects, or says why it cannot.
func dial(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > 107 {
		return nil, fmt.Errorf("connect to %q: %w: the path is longer than 107 bytes", path, ErrNotRunning)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connect to %q: %w", path, context.Cause(ctx))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("connect to %q: %w%s", path, ErrDenied, join(path))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, errors.ErrUnsupported):
		return nil, fmt.Errorf("%w at %q; see `systemctl status fieldpost`", ErrNotRunning, path)
	}
	return nil, fmt.Errorf("connect to %q: %w", path, err)
}

// join says which group to join.
func join(path string) string {
	group := groupOf(path)
	if group == "" {
		group = "fieldpost"
	}
	name := os.Getenv("USER")
	if !showable(name) {
		name = "USER"
	}
	return fmt.Sprintf("; join the group %s and log in again: `sudo usermod -aG %[1]s %[2]s`", group, name)
}

// exchange sends a request and gives the line that is its answer. A daemon may
// answer before it has read: that it is busy.
func exchange(c net.Conn, request []byte) ([]byte, error) {
	_, unsent := c.Write(request)
	line, err := readLine(c, maxAnswer)
	switch {
	case err == nil && line[len(line)-1] == '\n':
		return line, nil
	case unsent != nil:
		return nil, unsent
	case err == nil:
		return nil, errors.New("it broke off")
	}
	return nil, err
}

// understand reads an answer.
func understand(line []byte, result any) error {
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("understand the daemon: %w", err)
	}
	switch {
	case a.Error != nil:
		return a.Error
	case a.Version != Version:
		return &Error{WrongVersion, fmt.Sprintf("the daemon speaks version %d of the protocol, and this program %d", a.Version, Version), "Use the program that the daemon runs."}
	}
	if err := json.Unmarshal(a.Result, result); err != nil {
		return fmt.Errorf("understand the daemon: %w", err)
	}
	return nil
}
