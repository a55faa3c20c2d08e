package local

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"fieldpost/daemon/api"
)

// Errors of [Do]. An error that the daemon itself returns is an [*api.Error].
var (
	// ErrNotRunning is the error when no daemon listens on the socket. No request was sent.
	ErrNotRunning = errors.New("no daemon answers")
	// ErrDenied is the error when this user may not connect. No request was sent.
	ErrDenied = errors.New("permission denied")
	// ErrNoAnswer is the error when a request was sent, and the daemon ended or did not
	// answer in time. It is not known whether the request was carried out.
	ErrNoAnswer = errors.New("no answer came")
)

// Do sends a request to the daemon whose socket is at path and decodes the answer into
// result, a pointer. with is the body, or the query of a route that has one; nil is none. It
// waits until ctx ends. Any goroutine.
func Do(ctx context.Context, path string, route api.Route, with, result any) error {
	var body []byte
	if with != nil {
		var err error
		if body, err = marshal(with); err != nil {
			return fmt.Errorf("call daemon: %w", err)
		}
	}
	if route.Query != nil && body != nil {
		var keys map[string]string
		if err := json.Unmarshal(body, &keys); err != nil {
			return fmt.Errorf("call daemon: %w", err)
		}
		all := url.Values{}
		for key, value := range keys {
			all.Set(key, value)
		}
		route.Path, body = route.Path+"?"+all.Encode(), nil
	}
	for pause := busyFirst; ; pause *= 2 {
		err := doOnce(ctx, path, route, body, result)
		var said *api.Error
		if !errors.As(err, &said) || said.Code != api.Busy || pause > busyLast {
			return err
		}
		wait(ctx, pause) // nothing was done
	}
}

// If the daemon is busy, Do tries again for about a second and a half.
const (
	busyFirst = 50 * time.Millisecond
	busyLast  = 800 * time.Millisecond
)

// maxAnswer bounds an answer, in bytes. The status of several thousand sensors fits.
const maxAnswer = 4 << 20

// doOnce makes one connection and sends one request.
func doOnce(ctx context.Context, path string, route api.Route, body []byte, result any) error {
	c, err := dial(ctx, path)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	status, answer, err := exchange(c, route, body)
	var other *api.Error
	switch {
	case errors.As(err, &other):
		return other
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
		fallthrough
	case err != nil:
		return fmt.Errorf("call daemon at %q: %w: %w", path, ErrNoAnswer, err)
	}
	return decodeAnswer(status, answer, result)
}

// dial connects to the socket.
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
		return nil, fmt.Errorf("connect to %q: %w%s", path, ErrDenied, groupHint(path))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, errors.ErrUnsupported):
		return nil, fmt.Errorf("%w at %q; see `systemctl status fieldpost`", ErrNotRunning, path)
	}
	return nil, fmt.Errorf("connect to %q: %w", path, err)
}

// groupHint says which group the user must join.
func groupHint(path string) string {
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

// exchange sends a request and reads the answer. A daemon that is busy may answer before it
// has read the whole request.
func exchange(c net.Conn, route api.Route, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequest(route.Method, "http://localhost"+route.Path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Close = true
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	unsent := r.Write(c)
	in := bufio.NewReader(io.LimitReader(c, maxAnswer))
	if first, err := in.Peek(1); err == nil && first[0] == '{' {
		return 0, nil, &api.Error{Code: api.WrongVersion, Text: "the process at the socket does not speak HTTP; it may be an older daemon", Hint: "Restart the daemon: `systemctl restart fieldpost`."}
	}
	a, err := http.ReadResponse(in, r)
	if err != nil {
		return 0, nil, cmp.Or(unsent, err)
	}
	defer a.Body.Close()
	answer, err = io.ReadAll(a.Body)
	return a.StatusCode, answer, err
}

// decodeAnswer decodes an answer: the result, or the daemon's error.
func decodeAnswer(status int, answer []byte, result any) error {
	if status == http.StatusOK {
		if err := json.Unmarshal(answer, result); err != nil {
			return fmt.Errorf("decode the daemon's answer: %w", err)
		}
		return nil
	}
	var failed api.ErrorAnswer
	if err := json.Unmarshal(answer, &failed); err != nil || failed.Error == nil {
		return fmt.Errorf("decode the daemon's answer: status %d %s: %.200q", status, http.StatusText(status), answer)
	}
	return failed.Error
}
