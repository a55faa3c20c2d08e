package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
)

var someCalls = map[string]Call{
	"echo": func(_ context.Context, from Peer, with json.RawMessage) (any, error) {
		return map[string]any{"from": from.String(), "with": with}, nil
	},
	"panic": func(context.Context, Peer, json.RawMessage) (any, error) { panic("boom") },
	"fail":  func(context.Context, Peer, json.RawMessage) (any, error) { return nil, errors.New("no luck") },
	"refuse": func(context.Context, Peer, json.RawMessage) (any, error) {
		return nil, fmt.Errorf("x: %w", &Error{"c", "t", "H."})
	},
	"hang": func(ctx context.Context, _ Peer, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	},
	"much": func(context.Context, Peer, json.RawMessage) (any, error) { return strings.Repeat("x", 1<<20), nil },
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := open(t, someCalls)
		for line, want := range map[string]string{
			`{"v":1,"call":"echo","with":[1]}`: `{"v":1,"result":{"from":"uid=4000000000 pid=4242","with":[1]}}`,
			`{"v":1,"call":"panic"}`:           `{"v":1,"error":{"code":"internal","text":"call panicked: boom","hint":"This is a bug of fieldpost; please report it."}}`,
			`{"v":1,"call":"fail"}`:            `{"v":1,"error":{"code":"internal","text":"no luck"}}`,
			`{"v":1,"call":"refuse"}`:          `{"v":1,"error":{"code":"c","text":"t","hint":"H."}}`,
			`{"v":1,"call":"sing"}`:            `{"v":1,"error":{"code":"unknown_call","text":"this daemon knows no call \"sing\"","hint":"After an upgrade restart the daemon: ` + "`systemctl restart fieldpost`" + `."}}`,
			`rubbish`:                          `{"v":1,"error":{"code":"malformed","text":"request is not a JSON object","hint":"Send one line such as {\"v\":1,\"call\":\"status\"}."}}`,
		} {
			if got := d.ask(t, line); got != want {
				t.Errorf("%s:\n got %s\nwant %s", line, got, want)
			}
		}
		h.end()
	})
}

// A request may be of any size up to the bound, and is not read beyond it.
func TestRequestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := open(t, someCalls)
		c := d.come()
		go func() { _, _ = io.WriteString(c, strings.Repeat("x", maxRequest+1)) }()
		if got := hear(t, c); !strings.Contains(got, `"code":"too_large"`) {
			t.Errorf("got %s", got)
		}
		fits := `{"v":1,"call":"echo","with":"` + strings.Repeat("x", maxRequest-40) + `"}`
		if got := d.ask(t, fits); !strings.HasPrefix(got, `{"v":1,"result"`) {
			t.Errorf("got %.80s", got)
		}
		h.end()
	})
}

// Who says nothing, or half of it, or does not listen, is dropped in time.
func TestIdleClientsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := open(t, someCalls)
		for _, said := range []string{"", `{"v":1,"call":`} {
			before, c := time.Now(), d.come()
			if _, err := io.WriteString(c, said); err != nil {
				t.Fatal(err)
			}
			if got := hear(t, c); got != "" || time.Since(before) != patience {
				t.Errorf("said %q: heard %q after %v", said, got, time.Since(before))
			}
		}
		deaf := d.come()
		if _, err := io.WriteString(deaf, `{"v":1,"call":"much"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		<-time.After(patience)
		synctest.Wait()
		if got := hear(t, deaf); got != "" {
			t.Errorf("heard %.80s after all", got)
		}
		gone := d.come()
		gone.Close()
		h.end()
	})
}

// The end waits for nobody who is idle, tells those whose call is cut short,
// and sees a call through that goes on.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		h, d := open(t, map[string]Call{"hang": someCalls["hang"], "finish": func(context.Context, Peer, json.RawMessage) (any, error) {
			<-finish
			return "done", nil
		}})
		idle, cut, whole := d.come(), d.come(), d.come()
		heard := make(chan string, 3)
		for _, x := range []struct {
			c    net.Conn
			line string
		}{{cut, `{"v":1,"call":"hang"}`}, {whole, `{"v":1,"call":"finish"}`}, {idle, ""}} {
			go func() {
				if x.line != "" {
					_, _ = io.WriteString(x.c, x.line+"\n")
				}
				b, _ := io.ReadAll(x.c)
				heard <- string(b)
			}()
		}
		synctest.Wait()
		h.stop()
		got := []string{<-heard, <-heard}
		if all := strings.Join(got, ""); strings.Count(all, "\n") != 1 || !strings.Contains(all, `"code":"stopping"`) {
			t.Errorf("heard %q", got)
		}
		close(finish)
		if got := <-heard; got != `{"v":1,"result":"done"}`+"\n" {
			t.Errorf("heard %q", got)
		}
		if took := h.end(); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

// Who does not listen holds up the end for a second at most.
func TestEndDoesNotWaitForTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := open(t, someCalls)
		for _, call := range []string{"much", "hang"} {
			if _, err := io.WriteString(d.come(), `{"v":1,"call":"`+call+`"}`+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if took := h.end(); took > hurry {
			t.Errorf("the end took %v", took)
		}
	})
}

// A socket that cannot be opened is a fault, and is tried again; so is one that
// somebody has removed.
func TestSocketIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, someCalls)
		h.doors <- nil
		h.doors <- nil
		<-time.After(again)
		synctest.Wait()
		want := "open, local local_unavailable raised, open"
		if got := h.taken(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		first, second := newDoor(), newDoor()
		h.doors <- first
		<-time.After(again)
		if got := first.ask(t, `{"v":1,"call":"echo"}`); !strings.Contains(got, "result") {
			t.Errorf("got %s", got)
		}
		want += ", open, local local_unavailable cleared"
		if got := h.taken(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		h.doors <- second
		first.lose()
		<-time.After(again)
		synctest.Wait()
		if got := second.ask(t, `{"v":1,"call":"echo"}`); !strings.Contains(got, "result") {
			t.Errorf("got %s", got)
		}
		h.end()
	})
}

// When the system gives no connection, the server waits a moment and goes on.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := open(t, someCalls)
		d.knock <- visit{}
		d.knock <- visit{}
		if got := d.ask(t, `{"v":1,"call":"echo"}`); !strings.Contains(got, "result") {
			t.Errorf("got %s", got)
		}
		d.knock <- visit{}
		synctest.Wait()
		if took := h.end(); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

// Where there are no such sockets the server does nothing, and nothing is wrong.
func TestUnsupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, done: make(chan error, 1)}
		s := New(Options{Health: health.New(func(c health.Change) { t.Errorf("%+v", c) })})
		s.listen = func(string) (listener, error) { return nil, fmt.Errorf("x: %w", errors.ErrUnsupported) }
		ctx, cancel := context.WithCancel(context.Background())
		h.stop = cancel
		go func() { h.done <- s.Run(ctx) }()
		<-time.After(time.Hour)
		h.end()
	})
}
