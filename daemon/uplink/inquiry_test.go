package uplink

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

// asker answers and records questions.
type asker struct {
	questions []Question
	answer    Answer
}

func (a *asker) ask(_ context.Context, q Question) Answer {
	a.questions = append(a.questions, q)
	return a.answer
}

// refuseSubscribe closes the next connection when its SUBSCRIBE comes.
func refuseSubscribe(b *broker) {
	p := b.accept(true)
	expect[*packets.SubscribePacket](p)
	p.hangUp()
	synctest.Wait()
}

// After the second hang-up on the same request the broker is asked for its reason, once, under
// another client id and while no other connection is open. The fault quotes it.
func TestBrokerIsAskedForItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, a := newBroker(t), &asker{answer: Answer{Reason: &Reason{Packet: "SUBACK", Code: 135, Text: "no"}}}
		c := orders(b)
		c.Ask = a.ask
		l := run(t, c)
		refuseSubscribe(b)
		if len(a.questions) != 0 {
			t.Fatal("asked after one hang-up")
		}
		for range 2 {
			refuseSubscribe(b)
			if len(a.questions) != 1 {
				t.Fatalf("asked %d times", len(a.questions))
			}
		}
		q := a.questions[0]
		if q.Phase != Subscribing || q.Sub.Filter != "orders" || !q.Probe.Clean || !strings.HasPrefix(q.Probe.ClientID, "board-send-") || q.Probe.creds == nil {
			t.Errorf("question: %+v", q)
		}
		const said = `SUBACK 135: not authorized ("no")`
		checkSays(t, l.Status().Err.(*Explained), health.SubscribeDenied, said, q.Probe.ClientID)
		p := b.accept(true) // the subscription is left out
		synctest.Wait()
		if st := l.Status(); !st.Connected || !strings.Contains(st.DeniedWhy, said) || strings.Contains(st.DeniedWhy, "inferred") {
			t.Errorf("status: %+v", st)
		}
		l.end(t, p)
	})
}

// Without an answer the explanation is a conclusion, and says so.
func TestConclusionsAreMarked(t *testing.T) {
	for name, c := range map[string]struct {
		answer Answer
		want   string
	}{
		"nothing was learned": {Answer{}, "inferred, as it gives no reason"},
		"accepted":            {Answer{Accepted: true}, "it accepts the same"},
		"may not ask":         {Answer{Reason: &Reason{Packet: "CONNACK", Code: 135}}, "it does not let us ask"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, a := newBroker(t), &asker{answer: c.answer}
				o := orders(b)
				o.Ask = a.ask
				l := run(t, o)
				for range 3 {
					refuseSubscribe(b)
				}
				checkSays(t, l.Status().Err.(*Explained), health.SubscribeDenied, "inferred", c.want)
				p := b.accept(true)
				synctest.Wait()
				if why := l.Status().DeniedWhy; !strings.Contains(why, c.want) {
					t.Errorf("left out: %s", why)
				}
				l.end(t, p)
			})
		})
	}
}

// A broker that does not support MQTT 5 is asked once, any other at most once an hour
// about a request.
func TestQuestionsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		answer Answer
		want   int
	}{
		"does not speak it": {Answer{Unsupported: true}, 1},
		"no answer":         {Answer{}, 3},
		"its reason":        {Answer{Reason: &Reason{Packet: "CONNACK", Code: 135}}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, a := newBroker(t), &asker{answer: c.answer}
				o := b.config()
				o.Ask = a.ask
				l := runWaiting(t, o, func(below time.Duration) time.Duration { return below })
				began, hangUps := time.Now(), 0
				for time.Since(began) < 2*time.Hour+30*time.Minute {
					p := b.peer()
					expect[*packets.ConnectPacket](p)
					p.hangUp()
					synctest.Wait()
					hangUps++
				}
				if len(a.questions) != c.want || hangUps < 10 {
					t.Errorf("asked %d times after %d hang-ups, want %d", len(a.questions), hangUps, c.want)
				}
				l.end(t, nil)
			})
		})
	}
}

// A broker that ended while it was asked seems not to speak MQTT 5. It is asked again a day
// later.
func TestMuteBrokerIsAskedAgain(t *testing.T) {
	i, r, now := inquiry{}, request{phase: Connecting}, time.Now()
	i.hungUp(r, now)
	if !i.hungUp(r, now) {
		t.Fatal("not asked")
	}
	i.learn(r, answered{Answer{Unsupported: true}, "board-1", now})
	if other := (request{Publishing, "t"}); i.hungUp(other, now.Add(2*time.Hour)) || i.hungUp(other, now.Add(23*time.Hour)) {
		t.Error("asked within a day")
	}
	if i.hungUp(r, now.Add(24*time.Hour)) || !i.hungUp(r, now.Add(24*time.Hour)) {
		t.Error("not asked after a day, at the second hang-up")
	}
}

// The question about a refused CONNECT has a will, which may be the cause, but with a
// neutral payload.
func TestQuestionAboutConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, a := newBroker(t), &asker{answer: Answer{Reason: &Reason{Packet: "CONNACK", Code: 135}}}
		c := b.config()
		c.Ask, c.Will = a.ask, &Publication{Topic: "readings", Payload: []byte("offline")}
		l := run(t, c)
		for range 2 {
			p := b.peer()
			expect[*packets.ConnectPacket](p)
			p.hangUp()
			synctest.Wait()
		}
		checkSays(t, l.Status().Err.(*Explained), health.ConnectRefused, "CONNACK 135: not authorized", "board-send-")
		q := a.questions[0]
		if q.Phase != Connecting || q.Probe.Will == nil || q.Probe.Will.Topic != "readings" || strings.Contains(string(q.Probe.Will.Payload), "offline") {
			t.Errorf("question: %+v", q)
		}
		l.end(t, nil)
	})
}

// The question about a publish has a message of the same length on the same topic. With
// several topics in flight the cause is not known yet, and nothing is asked.
func TestQuestionAboutPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, a := newBroker(t), &asker{answer: Answer{Reason: &Reason{Packet: "PUBACK", Code: 135}}}
		c := b.config()
		c.Ask = a.ask
		l := run(t, c)
		var good []<-chan error
		for range 3 {
			l.queue.Publish("bad", []byte(strings.Repeat("b", 300)))
			good = append(good, l.queue.Publish("good", []byte("g")))
		}
		p := deliverUntilDenied(t, b, len(good))
		synctest.Wait()
		if len(a.questions) != 1 {
			t.Fatalf("asked %d times", len(a.questions))
		}
		if q := a.questions[0]; q.Phase != Publishing || q.Pub.Topic != "bad" || len(q.Pub.Payload) < 300 || !strings.HasPrefix(string(q.Pub.Payload), `{"kind":"probe"}`) {
			t.Errorf("question: %+v", q)
		}
		checkSays(t, l.Status().Err.(*Explained), health.PublishDenied, "PUBACK 135: not authorized")
		l.end(t, p)
	})
}

// A network failure is no refusal, so nothing is asked.
func TestNetworkIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, a := newBroker(t), &asker{}
		c := orders(b)
		c.Ask = a.ask
		l := run(t, c)
		refuseSubscribe(b)
		p := b.accept(true)
		p.grant("orders", 1)
		p.hangUp() // while no request waits for an answer
		synctest.Wait()
		refuseSubscribe(b)
		if len(a.questions) != 0 {
			t.Errorf("asked: %+v", a.questions)
		}
		l.end(t, nil)
	})
}

// The end of the link ends a present question and waits for it.
func TestQuestionIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := orders(b)
		over := false
		c.Ask = func(ctx context.Context, _ Question) Answer {
			<-ctx.Done()
			over = true
			return Answer{}
		}
		l := run(t, c)
		refuseSubscribe(b)
		refuseSubscribe(b)
		l.end(t, nil)
		if !over {
			t.Error("the link ended before its question")
		}
	})
}

func TestAskID(t *testing.T) {
	for own, want := range map[string]string{
		"board":                       "board-send-",
		strings.Repeat("x", 200):      strings.Repeat("x", 118) + "-send-",
		strings.Repeat("ä", 100):      strings.Repeat("ä", 59) + "-send-",
		strings.Repeat("x", 118):      strings.Repeat("x", 118) + "-send-",
		"a" + strings.Repeat("ä", 99): "a" + strings.Repeat("ä", 58) + "-send-",
	} {
		got := askID(own)
		if !strings.HasPrefix(got, want) || len(got) != len(want)+4 || len(got) > 128 || got == own {
			t.Errorf("%q: got %q", own, got)
		}
	}
}
