package daemon

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/wake"
	"fieldpost/sensors"
)

// The event of an order from the broker waits for the order's answer, for 50 ms at most, and
// no event overtakes another.
func TestOrderEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		start := time.Now()
		e := orderEvents{late: wake.New(), take: func(r message.Record) { got = append(got, fmt.Sprint(time.Since(start), " ", r.Field("output"))) }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-e.late.C():
					e.release()
				}
			}
		}()
		event := func(output, cause, id string) {
			r := message.Record{Kind: message.Event, Fields: []sensors.Field{{Name: "output", Value: output}, {Name: "cause", Value: cause}}}
			if id != "" {
				r.Fields = append(r.Fields, sensors.Field{Name: "id", Value: id})
			}
			e.put(r)
		}
		want := func(what string, all ...string) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(got, all) {
				t.Errorf("%s: got %q, want %q", what, got, all)
			}
			got, start = nil, time.Now()
		}
		event("answered", "mqtt", "c-1")
		<-time.After(3 * time.Millisecond)
		e.answered("c-0")
		want("another order's answer")
		e.answered("c-1")
		e.answered("c-1")
		want("its answer", "0s answered")
		event("late", "mqtt", "c-2")
		<-time.After(60 * time.Millisecond)
		want("no answer", "50ms late")
		event("first", "mqtt", "c-3")
		event("second", "max_on", "")
		want("another event", "0s first", "0s second")
		event("local", "local uid 0", "c-4")
		want("an order that is not answered by message", "0s local")
		event("last", "mqtt", "c-5")
		e.release()
		e.release()
		<-time.After(time.Second)
		want("the end", "0s last")
	})
}
