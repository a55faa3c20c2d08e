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

const another = 1000

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

const echo = `{"v":1,"call":"echo"}`

// Who is silent, or says half of it, gives way to who comes later, and only to
// one's own; another user notices nothing.
func TestSilentClients(t *testing.T) {
	for name, said := range map[string]string{"silent": "", "half": `{"v":1,`, "too much": strings.Repeat("x", maxRequest+1)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, d := open(t, someCalls)
				theirs := d.comeAs(another)
				var all []net.Conn
				for range 40 {
					c := d.come()
					go func() { _, _ = io.WriteString(c, said) }()
					synctest.Wait()
					all = append(all, c)
				}
				if got := d.ask(t, echo); !strings.Contains(got, "result") {
					t.Errorf("beside forty others: %s", got)
				}
				if got := hear(t, all[0]); said != strings.Repeat("x", maxRequest+1) && !strings.Contains(got, `"code":"busy"`) {
					t.Errorf("the oldest heard %q", got)
				}
				if _, err := io.WriteString(theirs, echo+"\n"); err != nil {
					t.Fatal(err)
				}
				if got := hear(t, theirs); !strings.Contains(got, "result") {
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
		h, d := open(t, someCalls)
		patient := d.comeAs(another)
		for uid := range uint32(2 * most / share) {
			for range share {
				c := d.comeAs(uid)
				defer c.Close()
			}
		}
		synctest.Wait()
		if _, err := io.WriteString(patient, echo+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := hear(t, patient); !strings.Contains(got, "result") {
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
		h, d := open(t, busy(begun))
		var reads []net.Conn
		for range callsShare {
			reads = append(reads, d.asking(t, somebody, `{"v":1,"call":"read"}`))
		}
		synctest.Wait()
		if got := d.ask(t, `{"v":1,"call":"read"}`); !strings.Contains(got, `"code":"busy"`) {
			t.Errorf("one reading too many heard %s", got)
		}
		first := d.asking(t, somebody, `{"v":1,"call":"order","with":"first"}`)
		synctest.Wait()
		for uid := range uint32(3 * urgentMost / urgentShare) {
			for range urgentShare {
				c := d.asking(t, uid, `{"v":1,"call":"order","with":"others'"}`)
				go func() { _, _ = io.Copy(io.Discard, c) }() // a pipe holds nothing
			}
		}
		for range 3 * urgentShare {
			c := d.asking(t, somebody, `{"v":1,"call":"order","with":"mine"}`)
			go func() { _, _ = io.Copy(io.Discard, c) }()
			synctest.Wait()
		}
		for len(begun) > 0 {
			<-begun
		}
		last := d.asking(t, somebody, `{"v":1,"call":"order","with":"last"}`)
		synctest.Wait()
		if len(begun) != 1 || <-begun != `"last"` {
			t.Error("the last order has not begun")
		}
		if got := hear(t, first); got != `{"v":1,"result":"under way"}` {
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
		h, d := open(t, map[string]Call{"order": func(context.Context, Peer, json.RawMessage) (any, error) {
			<-release
			return "done", nil
		}})
		for range urgentEnds {
			c := d.asking(t, somebody, `{"v":1,"call":"order"}`)
			defer c.Close()
			synctest.Wait()
		}
		if got := d.ask(t, `{"v":1,"call":"order"}`); !strings.Contains(got, `"code":"busy"`) {
			t.Errorf("heard %s", got)
		}
		theirs := d.asking(t, another, `{"v":1,"call":"order"}`)
		synctest.Wait()
		close(release)
		if got := hear(t, theirs); !strings.Contains(got, "done") {
			t.Errorf("another user heard %s", got)
		}
		<-time.After(time.Second)
		h.end()
	})
}
