package local

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const otherUserID = 1000

// busy are calls that wait: "read" until the client's context ends, "order" until
// then and a moment, and says so.
func busy(begun chan<- string) map[string]Call {
	return map[string]Call{
		"echo": someCalls["echo"],
		"read": func(ctx context.Context, _ Peer, _ json.RawMessage) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"order": func(ctx context.Context, _ Peer, with json.RawMessage) (any, error) {
			begun <- string(with)
			<-ctx.Done()
			return "under way", nil
		},
	}
}

var echo = request("echo", "")

// Who is silent, or says half of it, gives way to who comes later, and only to
// one's own; another user notices nothing.
func TestSilentClients(t *testing.T) {
	for name, said := range map[string]string{"silent": "", "half a header": "POST /v1/echo HT", "half a body": request("echo", "xyz")[:len(request("echo", "xyz"))-2], "too much": request("echo", strings.Repeat("x", maxBody+1))} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, d := startServer(t, someCalls)
				theirs := d.connectAs(otherUserID)
				var all []net.Conn
				for range 40 {
					c := d.connect()
					go func() { _, _ = io.WriteString(c, said) }()
					synctest.Wait()
					all = append(all, c)
				}
				if got := d.exchange(t, "echo", ""); !strings.HasPrefix(got, "200 ") {
					t.Errorf("beside forty others: %s", got)
				}
				if got := readAnswer(t, all[0]); name != "too much" && !strings.Contains(got, `503 {"error":{"code":"busy"`) {
					t.Errorf("the oldest heard %q", got)
				}
				if _, err := io.WriteString(theirs, echo); err != nil {
					t.Fatal(err)
				}
				if got := readAnswer(t, theirs); !strings.HasPrefix(got, "200 ") {
					t.Errorf("another user's heard %s", got)
				}
				h.end()
			})
		})
	}
}

// The connections of all users together are bounded: the greediest gives way.
func TestSilentUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := startServer(t, someCalls)
		patient := d.connectAs(otherUserID)
		for uid := range uint32(2 * waitingMax / userWaitingMax) {
			for range userWaitingMax {
				c := d.connectAs(uid)
				defer c.Close()
			}
		}
		synctest.Wait()
		if _, err := io.WriteString(patient, echo); err != nil {
			t.Fatal(err)
		}
		if got := readAnswer(t, patient); !strings.HasPrefix(got, "200 ") {
			t.Errorf("heard %s", got)
		}
		h.end()
	})
}

// However many readings hang, and however many orders of other users: an order
// begins at once, and so does a user's own beside those that hang.
func TestPlaceForOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan string, 1000)
		h, d := startServer(t, busy(begun))
		var reads []net.Conn
		for range userCallsMax {
			reads = append(reads, d.send(t, userID, "read", ""))
		}
		synctest.Wait()
		if got := d.exchange(t, "read", ""); !strings.Contains(got, `"code":"busy"`) {
			t.Errorf("one reading too many heard %s", got)
		}
		first := d.send(t, userID, "order", `"first"`)
		synctest.Wait()
		for uid := range uint32(3 * urgentMax / userUrgentMax) {
			for range userUrgentMax {
				c := d.send(t, uid, "order", `"others'"`)
				go func() { _, _ = io.Copy(io.Discard, c) }() // a pipe holds nothing
			}
		}
		for range 3 * userUrgentMax {
			c := d.send(t, userID, "order", `"mine"`)
			go func() { _, _ = io.Copy(io.Discard, c) }()
			synctest.Wait()
		}
		for len(begun) > 0 {
			<-begun
		}
		last := d.send(t, userID, "order", `"last"`)
		synctest.Wait()
		if len(begun) != 1 || <-begun != `"last"` {
			t.Error("the last order has not begun")
		}
		if got := readAnswer(t, first); got != `200 "under way"` {
			t.Errorf("the first order heard %s", got)
		}
		reads[0].Close()
		h.stop()
		last.Close()
		h.end()
	})
}

// A user whose orders neither end nor give way is told so, and nobody else is.
func TestOrdersThatDoNotGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h, d := startServer(t, map[string]Call{"order": func(context.Context, Peer, json.RawMessage) (any, error) {
			<-release
			return "done", nil
		}})
		for range userEndingsMax {
			c := d.send(t, userID, "order", "")
			defer c.Close()
			synctest.Wait()
		}
		if got := d.exchange(t, "order", ""); !strings.Contains(got, `"code":"busy"`) {
			t.Errorf("heard %s", got)
		}
		theirs := d.send(t, otherUserID, "order", "")
		synctest.Wait()
		close(release)
		if got := readAnswer(t, theirs); !strings.Contains(got, "done") {
			t.Errorf("another user heard %s", got)
		}
		<-time.After(time.Second)
		h.end()
	})
}
