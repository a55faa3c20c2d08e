package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
)

var someCalls = map[string]Call{
	"echo": func(_ context.Context, from Peer, with json.RawMessage) (any, error) {
		return map[string]any{"from": from.String(), "with": with}, nil
	},
	"raw": func(context.Context, Peer, json.RawMessage) (any, error) {
		return json.RawMessage(`{"as":  "it is"}`), nil
	},
	"nothing": func(context.Context, Peer, json.RawMessage) (any, error) { return math.NaN(), nil },
	"panic":   func(context.Context, Peer, json.RawMessage) (any, error) { panic("boom") },
	"fail":    func(context.Context, Peer, json.RawMessage) (any, error) { return nil, errors.New("no luck") },
	"refuse": func(context.Context, Peer, json.RawMessage) (any, error) {
		return nil, fmt.Errorf("x: %w", &api.Error{Code: "c", Text: "t", Hint: "H."})
	},
	"hang": func(ctx context.Context, _ Peer, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	},
	"much": func(context.Context, Peer, json.RawMessage) (any, error) { return strings.Repeat("x", 1<<20), nil },
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		for call, want := range map[string]string{
			"echo [1]":         `200 {"from":"uid=4000000000 pid=4242","with":[1]}`,
			`echo {"a":"<&>"}`: `200 {"from":"uid=4000000000 pid=4242","with":{"a":"<&>"}}`,
			"echo":             `200 {"from":"uid=4000000000 pid=4242","with":null}`,
			"raw":              `200 {"as":  "it is"}`,
			"nothing":          `500 {"error":{"code":"internal","text":"encode answer: json: unsupported value: NaN","hint":"This is a bug in fieldpost; please report it."}}`,
			"panic":            `500 {"error":{"code":"internal","text":"call panicked: boom","hint":"This is a bug in fieldpost; please report it."}}`,
			"fail":             `500 {"error":{"code":"internal","text":"no luck"}}`,
			"refuse":           `502 {"error":{"code":"c","text":"t","hint":"H."}}`,
			"sing":             `404 {"error":{"code":"unknown_path","text":"this daemon has no path \"/v1/sing\"","hint":"The paths are in /openapi.json. After an upgrade restart the daemon: ` + "`systemctl restart fieldpost`" + `."}}`,
			"echo rubbish":     `400 {"error":{"code":"malformed","text":"body is not one JSON value: invalid character 'r' looking for beginning of value","hint":"See /openapi.json for what the path accepts."}}`,
			"echo 1 2":         `400 {"error":{"code":"malformed","text":"body is not one JSON value: invalid character '2' after top-level value","hint":"See /openapi.json for what the path accepts."}}`,
			"echo \"\xff\"":    `400 {"error":{"code":"malformed","text":"body is not UTF-8","hint":"See /openapi.json for what the path accepts."}}`,
		} {
			name, body, _ := strings.Cut(call, " ")
			if got := d.exchange(t, name, body); got != want {
				t.Errorf("%s:\n got %s\nwant %s", call, got, want)
			}
		}
		h.end()
	})
}

// What is no request of ours is told what to do instead.
func TestRequestsThatAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		for said, want := range map[string][]string{
			"GET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n":                                                                     {`405 {"error":{"code":"wrong_method"`, `"/v1/echo does not accept GET"`, "Use POST."},
			"GET /v2/status HTTP/1.1\r\nHost: x\r\n\r\n":                                                                   {`404 {"error":{"code":"unknown_path"`, "restart the daemon"},
			"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                                                                        {`404 {"error":{"code":"unknown_path"`},
			"PRI * HTTP/2.0\r\n\r\n":                                                                                       {`404 {"error":{"code":"unknown_path"`},
			"GET /v1/../v1/echo HTTP/1.1\r\nHost: x\r\n\r\n":                                                               {`404 {"error":{"code":"unknown_path"`},
			"GET /v1/plain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}":                                             {`400 {"error":{"code":"malformed"`, "does not accept a body"},
			"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}":                                             {`415 {"error":{"code":"wrong_type"`, "Content-Type: application/json"},
			"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": {`415 {"error":{"code":"wrong_type"`, `\"text/plain\"`},
			"POST /v1/must HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n":             {`400 {"error":{"code":"malformed"`, "unexpected end of JSON"},
			"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{":            {`408 {"error":{"code":"timed_out"`, "Send it without a pause."},
		} {
			c := d.connect()
			go func() { _, _ = io.WriteString(c, said) }()
			got := readAnswer(t, c)
			for _, w := range want {
				if !strings.Contains(got, w) {
					t.Errorf("%q: got %s, want %s", said, got, w)
				}
			}
		}
		h.end()
	})
}

// A request may be of any size up to the bound.
func TestRequestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		for _, large := range []string{
			request("echo", strings.Repeat("x", maxBody+1)),
			"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", 0x20000) + "\r\n0\r\n\r\n",
		} {
			c := d.connect()
			go func() { _, _ = io.WriteString(c, large) }()
			if got := readAnswer(t, c); !strings.Contains(got, `413 {"error":{"code":"too_large"`) {
				t.Errorf("got %s", got)
			}
		}
		fits := `"` + strings.Repeat("x", maxBody-2) + `"`
		if got := d.exchange(t, "echo", fits); !strings.HasPrefix(got, `200 `) {
			t.Errorf("got %.80s", got)
		}
		// Of a header net/http reads some more than the bound, and says so itself.
		c := d.connect()
		go func() {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 2*maxHeader)+"\r\n\r\n")
		}()
		if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 431 ") {
			t.Errorf("got %q, %v", b, err)
		}
		h.end()
	})
}

// A server that nobody asks has two goroutines, one that accepts and one that
// looks after the socket, and wakes up only for that; so it is again after it
// was asked.
func TestIdleServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := bubbleGoroutines(t)
		h, d := startServer(t, someCalls)
		synctest.Wait()
		if n := bubbleGoroutines(t) - before; n != 2 {
			t.Errorf("%d goroutines, want 2", n)
		}
		kept := strings.Replace(request("echo", "1"), "Connection: close\r\n", "", 1)
		for range 20 {
			c := d.connect()
			defer c.Close()
			if _, err := io.WriteString(c, kept); err != nil {
				t.Fatal(err)
			}
			parseAnswer(t, bufio.NewReader(c))
			synctest.Wait() // the connection is idle: only such ones make room for the next
		}
		<-time.After(patience)
		synctest.Wait()
		if n := bubbleGoroutines(t) - before; n != 2 {
			t.Errorf("%d goroutines after it was asked, want 2", n)
		}
		h.end()
	})
}

// bubbleGoroutines counts the goroutines of the test's own bubble: those of earlier tests may
// still be ending.
func bubbleGoroutines(t *testing.T) int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	header, _, _ := bytes.Cut(stacks, []byte("]:"))
	_, bubble, ok := bytes.Cut(header, []byte("synctest bubble "))
	if !ok {
		t.Fatalf("no bubble: %s", header)
	}
	return bytes.Count(stacks, append(append([]byte("synctest bubble "), bubble...), "]:"...))
}

// A connection may carry one request after the other. One that is idle is closed
// in time, without a word, and gives way to one that comes.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		again := strings.Replace(request("echo", "1"), "Connection: close\r\n", "", 1)
		c := d.connect()
		r := bufio.NewReader(c)
		for range 3 {
			if _, err := io.WriteString(c, again); err != nil {
				t.Fatal(err)
			}
			if got := parseAnswer(t, r); !strings.HasPrefix(got, "200 ") {
				t.Errorf("got %s", got)
			}
			<-time.After(patience / 2)
		}
		before := time.Now()
		if b, err := io.ReadAll(r); err != nil || len(b) > 0 || time.Since(before) != patience/2 {
			t.Errorf("heard %q after %v, %v", b, time.Since(before), err)
		}
		c = d.connect()
		r = bufio.NewReader(c)
		if _, err := io.WriteString(c, again); err != nil {
			t.Fatal(err)
		}
		parseAnswer(t, r)
		synctest.Wait()
		for range userWaitingMax {
			defer d.connect().Close()
		}
		before = time.Now()
		if b, err := io.ReadAll(r); err != nil || len(b) > 0 || time.Since(before) != 0 {
			t.Errorf("heard %q after %v, %v", b, time.Since(before), err)
		}
		h.end()
	})
}

// Who says nothing, or half of it, or does not listen, is dropped in time.
func TestIdleClientsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		for _, said := range []string{"", "POST /v1/echo HTT", "POST /v1/echo HTTP/1.1\r\nHost: x\r\n"} {
			before, c := time.Now(), d.connect()
			if _, err := io.WriteString(c, said); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c)
			heard := string(b)
			if strings.HasSuffix(said, " HTT") && strings.HasPrefix(heard, "HTTP/1.1 400 ") {
				heard = "" // net/http takes half a line for a bad one
			}
			if err != nil || heard != "" || time.Since(before) != patience {
				t.Errorf("said %q: heard %q after %v, %v", said, heard, time.Since(before), err)
			}
		}
		deaf := d.connect()
		if _, err := io.WriteString(deaf, request("much", "")); err != nil {
			t.Fatal(err)
		}
		<-time.After(patience)
		synctest.Wait()
		if b, err := io.ReadAll(deaf); err != nil || len(b) > 0 {
			t.Errorf("heard %.80q after all, %v", b, err)
		}
		gone := d.connect()
		gone.Close()
		h.end()
	})
}

// The end waits for nobody who is idle, tells those whose call is cut short,
// and sees a call through that goes on.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		h, d := startServer(t, map[string]Call{"hang": someCalls["hang"], "finish": func(context.Context, Peer, json.RawMessage) (any, error) {
			<-finish
			return "done", nil
		}})
		idle, cut, whole := d.connect(), d.connect(), d.connect()
		heard := make(chan string, 3)
		for _, x := range []struct {
			c    net.Conn
			line string
		}{{cut, request("hang", "")}, {whole, request("finish", "")}, {idle, ""}} {
			go func() {
				if x.line != "" {
					_, _ = io.WriteString(x.c, x.line)
				}
				heard <- readAnswer(t, x.c)
			}()
		}
		synctest.Wait()
		h.stop()
		got := []string{<-heard, <-heard}
		if all := strings.Join(got, ""); strings.Count(all, "error") != 1 || !strings.Contains(all, `503 {"error":{"code":"stopping"`) {
			t.Errorf("heard %q", got)
		}
		close(finish)
		if got := <-heard; got != `200 "done"` {
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
		h, d := startServer(t, someCalls)
		for _, call := range []string{"much", "hang"} {
			if _, err := io.WriteString(d.connect(), request(call, "")); err != nil {
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
// userID has removed.
func TestSocketIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestServer(t, someCalls)
		h.listeners <- nil
		h.listeners <- nil
		<-time.After(again)
		synctest.Wait()
		want := "open, local local_unavailable raised, open"
		if got := h.recorded(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		first, second := newPipeListener(), newPipeListener()
		h.listeners <- first
		<-time.After(again)
		if got := first.exchange(t, "echo", ""); !strings.HasPrefix(got, "200 ") {
			t.Errorf("got %s", got)
		}
		want += ", open, local local_unavailable cleared"
		if got := h.recorded(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		h.listeners <- second
		first.lose()
		<-time.After(again)
		synctest.Wait()
		if got := second.exchange(t, "echo", ""); !strings.HasPrefix(got, "200 ") {
			t.Errorf("got %s", got)
		}
		h.end()
	})
}

// When the system gives no connection, the server waits a moment and goes on.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		d.pending <- pendingConn{}
		d.pending <- pendingConn{}
		if got := d.exchange(t, "echo", ""); !strings.HasPrefix(got, "200 ") {
			t.Errorf("got %s", got)
		}
		d.pending <- pendingConn{}
		synctest.Wait()
		if took := h.end(); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

// Where there are no such sockets the server does nothing, and nothing is wrong.
func TestUnsupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &testServer{t: t, done: make(chan error, 1)}
		s := New(Options{Health: health.New(func(c health.Change) { t.Errorf("%+v", c) })})
		s.listen = func(string) (listener, error) { return nil, fmt.Errorf("x: %w", errors.ErrUnsupported) }
		ctx, cancel := context.WithCancel(context.Background())
		h.stop = cancel
		go func() { h.done <- s.Run(ctx) }()
		<-time.After(time.Hour)
		h.end()
	})
}
