package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"fieldpost/daemon/api"

	"golang.org/x/sys/unix"
)

// serve runs a server of some calls until the test ends.
func serve(t *testing.T, calls map[string]Call) (path string, stop func()) {
	t.Helper()
	path = socketPath(t)
	ready := make(chan struct{})
	s := New(Options{Path: path, Endpoints: endpoints(calls)})
	s.listen = func(p string) (listener, error) {
		defer close(ready)
		return listen(p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	<-ready
	return path, stop
}

func TestDo(t *testing.T) {
	path, stop := serve(t, someCalls)
	ctx := context.Background()
	var got struct {
		From string         `json:"from"`
		With map[string]int `json:"with"`
	}
	if err := Do(ctx, path, route("echo"), map[string]int{"a": 1}, &got); err != nil || got.With["a"] != 1 || !strings.HasSuffix(got.From, fmt.Sprintf(" pid=%d", os.Getpid())) {
		t.Errorf("got %+v, %v", got, err)
	}
	var text string
	if err := Do(ctx, path, route("much"), nil, &text); err != nil || len(text) != 1<<20 {
		t.Errorf("got %d bytes, %v", len(text), err)
	}
	var said *api.Error
	if err := Do(ctx, path, route("refuse"), nil, &text); !errors.As(err, &said) || !reflect.DeepEqual(*said, api.Error{Code: "c", Text: "t", Hint: "H."}) || err.Error() != "t" {
		t.Errorf("got %v", err)
	}
	if err := Do(ctx, path, route("much"), nil, new(int)); err == nil || !strings.HasPrefix(err.Error(), "decode the daemon's answer: ") {
		t.Errorf("an answer of another type: %v", err)
	}
	if err := Do(ctx, path, route("much"), func() {}, &text); err == nil {
		t.Error("asked with what has no form in JSON")
	}
	stop()
	if err := Do(ctx, path, route("echo"), nil, &got); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after its end: %v", err)
	}
}

// Forty silent clients keep nobody from asking, and those that gave way were told.
func TestDoBesideSilentClients(t *testing.T) {
	path, _ := serve(t, someCalls)
	var silent []net.Conn
	for range 40 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	for range 20 {
		if err := Do(context.Background(), path, route("echo"), strings.Repeat("x", 60_000), new(any)); err != nil {
			t.Fatalf("got %v", err)
		}
	}
	if got := readAnswer(t, silent[0]); !strings.Contains(got, `"code":"busy"`) {
		t.Errorf("the first silent one heard %q", got)
	}
}

// A daemon that is busy is asked again.
func TestDoAsksABusyDaemonAgain(t *testing.T) {
	n := 0
	path, _ := serve(t, map[string]Call{"x": func(context.Context, Peer, json.RawMessage) (any, error) {
		if n++; n < 3 {
			return nil, &api.Error{Code: api.Busy, Text: "later"}
		}
		return n, nil
	}, "never": func(context.Context, Peer, json.RawMessage) (any, error) {
		return nil, &api.Error{Code: api.Busy, Text: "later"}
	}})
	var got int
	if err := Do(context.Background(), path, route("x"), nil, &got); err != nil || got != 3 {
		t.Errorf("got %d, %v", got, err)
	}
	var said *api.Error
	if err := Do(context.Background(), path, route("never"), nil, &got); !errors.As(err, &said) || said.Code != api.Busy {
		t.Errorf("got %v", err)
	}
}

// A request over the limit gets its answer and no reset, however much more of it
// there is.
func TestTooLargeRequestIsAnswered(t *testing.T) {
	path, _ := serve(t, someCalls)
	for _, size := range []int{maxBody + 1, 1 << 20, 20 << 20} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// A client that writes all before it reads.
		if _, err := io.WriteString(c, request("echo", strings.Repeat("x", size))); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if got := readAnswer(t, c); !strings.Contains(got, `"code":"too_large"`) {
			t.Errorf("%d bytes: got %q", size, got)
		}
	}
}

// Nobody there, whatever is left of him.
func TestDoNotRunning(t *testing.T) {
	path := socketPath(t)
	for _, make := range []func(){
		func() {},
		func() {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		},
	} {
		make()
		err := Do(context.Background(), path, route("echo"), nil, new(any))
		if want := fmt.Sprintf("no daemon answers at %q; see `systemctl status fieldpost`", path); !errors.Is(err, ErrNotRunning) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := Do(context.Background(), strings.Repeat("x", 200), route("echo"), nil, new(any)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a path that no socket can have: %v", err)
	}
}

// Who is not in the group is told which one to join.
func TestDoDenied(t *testing.T) {
	path, _ := serve(t, someCalls)
	err := asStranger(t, path, 0o755)
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "; join the group "+groupOf(path)+" and log in again: `sudo usermod -aG "+groupOf(path)+" pi`") {
		t.Errorf("got %v", err)
	}
	// Of a socket in a directory that is closed to others, as the unit's is,
	// not even the group can be seen.
	err = asStranger(t, path, 0o700)
	if !errors.Is(err, ErrDenied) || os.Getuid() == 0 && !strings.Contains(err.Error(), "-aG fieldpost pi") {
		t.Errorf("in a closed directory: %v", err)
	}
	t.Setenv("USER", "a; reboot")
	if got := groupHint(path); strings.Contains(got, "reboot") {
		t.Errorf("somebody's name is %s", got)
	}
}

// asStranger calls as somebody who may not connect.
func asStranger(t *testing.T, path string, directory os.FileMode) error {
	t.Helper()
	t.Setenv("USER", "pi")
	if err := os.Chmod(filepath.Dir(path), directory); err != nil {
		t.Fatal(err)
	}
	denied := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never let go of: the thread ends with its user
		if os.Getuid() == 0 {
			if _, err := unix.SetfsuidRetUid(65534); err != nil {
				denied <- err
				return
			}
			_, _ = unix.SetfsgidRetGid(65534)
		} else if err := os.Chmod(path, 0); err != nil {
			denied <- err
			return
		}
		denied <- Do(context.Background(), path, route("echo"), nil, new(any))
	}()
	return <-denied
}

// A daemon that ends, or breaks off, or says nothing: it is not known whether
// what was asked is done.
func TestDoNoAnswer(t *testing.T) {
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, said := range []string{"", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123"} {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(c, said)
		}()
		if err := Do(context.Background(), path, route("echo"), nil, new(any)); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("said %q: got %v", said, err)
		}
		<-answered
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("ctrl-c")
	cut := make(chan error, 1)
	go func() { cut <- Do(ctx, path, route("echo"), nil, new(any)) }()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if err := <-cut; !errors.Is(err, ErrNoAnswer) || !errors.Is(err, why) {
		t.Errorf("cut short: %v", err)
	}
	if err := Do(ctx, path, route("echo"), nil, new(any)); !errors.Is(err, why) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("cut short before it was asked: %v", err)
	}
}

func TestUnderstand(t *testing.T) {
	for line, want := range map[string]string{
		"200 rubbish":            "decode the daemon's answer: ",
		"404 404 page not found": `decode the daemon's answer: status 404 Not Found: "404 page not found"`,
		`502 {}`:                 "decode the daemon's answer: status 502 Bad Gateway",
		`404 {"error":{"code":"unknown_path","text":"this daemon has no path"}}`: "this daemon has no path",
	} {
		status, body, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(status)
		if err := decodeAnswer(n, []byte(body), new(json.RawMessage)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	var v struct{ A int }
	if err := decodeAnswer(200, []byte(`{"A":1,"B":2}`), &v); err != nil || v.A != 1 {
		t.Errorf("an answer with more in it: %v", err)
	}
}

// A daemon from before HTTP says that it does not understand, in its own way.
func TestDoAsksAnOldDaemon(t *testing.T) {
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, `{"v":1,"error":{"code":"malformed","text":"request is not a JSON object"}}`+"\n")
	}()
	var said *api.Error
	if err := Do(t.Context(), path, route("echo"), nil, new(any)); !errors.As(err, &said) || said.Code != api.WrongVersion || !strings.Contains(said.Hint, "systemctl restart") {
		t.Errorf("got %v", err)
	}
	<-answered
}
