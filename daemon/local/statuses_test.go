package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/daemon/api"
)

// Whatever is the matter, every route answers with a status that its OpenAPI
// document has, and with each that every route has.
func TestEveryStatusIsDocumented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range api.Routes {
			var say error
			begun := make(chan struct{}, 100)
			h := newTestServer(t, map[string]Call{r.Name: func(ctx context.Context, _ Peer, _ json.RawMessage) (any, error) {
				if say == nil {
					return 1, nil
				}
				begun <- struct{}{}
				if errors.Is(say, context.Canceled) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, say
			}})
			h.server.o.Endpoints[0].Route = r
			d := newPipeListener()
			h.listeners <- d
			seen := map[int]bool{}
			ask := func(text string) {
				c := d.connect()
				defer c.Close()
				go func() { _, _ = io.WriteString(c, text) }()
				status, _, _ := strings.Cut(parseAnswer(t, bufio.NewReader(c)), " ")
				n, _ := strconv.Atoi(status)
				if !slices.Contains(r.Answers(), n) {
					t.Errorf("%s answers %d to %.80q, which its document does not have", r.Name, n, text)
				}
				seen[n] = true
			}
			head := r.Method + " " + r.Path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			good := head + "\r\n"
			if r.Request != nil {
				head += "Content-Type: application/json\r\n"
				good = head + "Content-Length: 2\r\n\r\n{}"
				ask(head + "Content-Length: 100000\r\n\r\n")
				ask(head + "Content-Length: 9\r\n\r\n{")
				ask(strings.Replace(good, "application/json", "text/html", 1))
			}
			ask(good)
			ask(head + "Content-Length: 3\r\n\r\n{},")
			say = errors.New("no luck")
			ask(good)
			say = context.Canceled
			for range userCallsMax {
				c := d.connect()
				defer c.Close()
				go func() { _, _ = io.WriteString(c, good); _, _ = io.Copy(io.Discard, c) }()
				synctest.Wait()
			}
			ask(good)
			h.end()
			for _, n := range r.Answers() {
				if !seen[n] && !slices.Contains(r.Statuses, n) && n != http.StatusOK {
					t.Errorf("%s never answers %d", r.Name, n)
				}
			}
			if !seen[http.StatusOK] {
				t.Errorf("%s never answers well", r.Name)
			}
		}
	})
}
