package uplink

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestOnlyAWSIsPaced(t *testing.T) {
	for host, want := range map[string]bool{
		"a1b2-ats.iot.ap-south-1.amazonaws.com":    true,
		"A1B2-ATS.iot.ap-south-1.AmazonAWS.com.":   true,
		"a1b2.ats.iot.cn-north-1.amazonaws.com.cn": true,
		"broker.test":                  false,
		"amazonaws.com.example":        false,
		"notamazonaws.com":             false,
		"127.0.0.1":                    false,
		"a.amazonaws.com.cn.elsewhere": false,
	} {
		if got := newRateLimiter(host, LimitsAuto).active(); got != want {
			t.Errorf("%s: paced %v, want %v", host, got, want)
		}
	}
}

// The configuration takes precedence over the endpoint's name.
func TestLimitsAsAskedFor(t *testing.T) {
	for _, c := range []struct {
		host   string
		limits Limits
		want   bool
	}{
		{"iot.example.com", LimitsAWS, true},
		{"iot.example.com", LimitsNone, false},
		{"x.amazonaws.com", LimitsNone, false},
		{"x.amazonaws.com", LimitsAWS, true},
	} {
		if got := newRateLimiter(c.host, c.limits).active(); got != c.want {
			t.Errorf("%s with %s: paced %v", c.host, c.limits, got)
		}
	}
	c := Config{Endpoint: "h:1", ClientID: "a", CA: "a", Certificate: "a", Key: "a", Outbox: NewQueue(), Limits: "AWS"}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "want auto, aws or none") {
		t.Errorf("limits AWS: %v", err)
	}
}

// AWS IoT Core with a custom domain accepts 100 messages a second and silently drops the
// rest. The second time that is recognised.
func TestBrokerThatDropsTheExcess(t *testing.T) {
	for limits, most := range map[Limits]int{LimitsAuto: 3, LimitsAWS: 1} {
		synctest.Test(t, func(t *testing.T) {
			const n = 3000
			b := newBroker(t)
			c := b.config()
			c.Limits = limits
			l := run(t, c)
			var sent []<-chan error
			for i := range n {
				sent = append(sent, l.queue.Publish("t", []byte(strconv.Itoa(i))))
			}
			connections := 0
			var left []int
			for settled(sent[n-1]) == "" {
				p := b.accept(true)
				connections++
				dropped := drops(p, 100)
				left = append(left, dropped)
			}
			if connections != most || left[len(left)-1] != 0 {
				t.Errorf("limits %s: %d connections, which dropped %d", limits, connections, left)
			}
			if !l.rate.aws { // the link does not use it now: nothing is in flight
				t.Errorf("limits %s: the bound is not kept", limits)
			}
			l.end(t, nil)
		})
	}
}

// drops simulates a broker that drops more than most messages in a second, until the link
// is silent or closes the connection. It returns the number of dropped messages.
func drops(p *peer, most int) (dropped int) {
	var times []time.Time
	for {
		cp, err := p.readFor(time.Minute)
		m, ok := cp.(*packets.PublishPacket)
		if err != nil || !ok {
			p.hangUp()
			synctest.Wait()
			return dropped
		}
		now := time.Now()
		for len(times) > 0 && now.Sub(times[0]) >= time.Second {
			times = times[1:]
		}
		if len(times) >= most {
			dropped++
			continue
		}
		times = append(times, now)
		p.puback(m.MessageID)
	}
}

// send sends messages of a size for d as fast as the limiter allows, and returns when
// each was sent.
func send(p *rateLimiter, size int, d time.Duration) (at []time.Time) {
	m := Publication{Payload: make([]byte, size-packetOverhead)}
	now := p.refilled
	for end := now.Add(d); now.Before(end); {
		if w := p.wait(now); w > 0 {
			now = now.Add(w)
			continue
		}
		if w := p.waitForLarge(m, now); w > 0 {
			now = now.Add(w)
			continue
		}
		p.noteSent(m, now)
		at = append(at, now)
	}
	return at
}

// busiest returns the largest number of messages in any one second.
func busiest(at []time.Time) (most int) {
	for i := range at {
		n := 0
		for _, x := range at[i:] {
			if x.Sub(at[i]) < time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// No second exceeds AWS IoT Core's limits, which are used completely.
func TestPaceKeepsTheLimits(t *testing.T) {
	const seconds = 60
	for _, size := range []int{200, 1 << 10, 6 << 10, 20 << 10, 64 << 10, 96 << 10, 128 << 10} {
		at := send(newRateLimiter("x.amazonaws.com", ""), size, seconds*time.Second)
		if n := busiest(at); n > 100 || n*size > 512<<10 {
			t.Errorf("size %d: %d in one second, %d bytes", size, n, n*size)
		}
		full := min(awsMessagesPerSecond*seconds, awsBytesPerSecond*seconds/size)
		if len(at) < full*95/100 && size <= largeBytes || len(at) < seconds-1 {
			t.Errorf("size %d: %d in a minute, want at least 95 %% of %d", size, len(at), full)
		}
	}
}

// A broker that was overloaded is not held to have limits for ever: drops that are more than a
// day apart do not count together, and a day after the last one there is no bound any more.
func TestDropsAreForgotten(t *testing.T) {
	p, now := newRateLimiter(brokerName, LimitsAuto), time.Now()
	for i := range 3 {
		if p.noteDropped(now); p.active() {
			t.Errorf("limits because of drop %d", i+1)
		}
		now = now.Add(believeFor)
	}
	p.noteDropped(now)
	now = now.Add(believeFor - time.Second)
	if !p.noteDropped(now) || !p.active() {
		t.Error("no limits after two drops in a day")
	}
	p.halve()
	now = now.Add(believeFor - time.Second)
	if p.wait(now); !p.active() {
		t.Error("no limits within the day")
	}
	if now = now.Add(time.Second); p.wait(now) != 0 || p.active() {
		t.Error("limits after a day")
	}
	for _, always := range []*rateLimiter{newRateLimiter(brokerName, LimitsAWS), newRateLimiter("a-ats.iot.eu-west-1.amazonaws.com", LimitsAuto)} {
		always.noteDropped(now)
		always.noteDropped(now)
		if always.wait(now.Add(2 * believeFor)); !always.active() {
			t.Error("the limits that are configured are gone")
		}
	}
}

func TestPaceHalvesAndRecovers(t *testing.T) {
	p := newRateLimiter("x.amazonaws.com", "")
	p.halve()
	if n := len(send(p, 100, time.Minute)); n < 40*60 || n > 40*60+burstMessages {
		t.Errorf("%d messages in a minute at half the rate", n)
	}
	for range 20 {
		p.halve()
	}
	if n := len(send(p, 100, time.Minute)); n < 5*60 || n > 5*60+burstMessages {
		t.Errorf("%d messages in a minute at the least rate", n)
	}
	now := p.refilled
	p.acked(now)
	before := p.share
	p.acked(now.Add(time.Hour)) // an hour without messages does not count as an hour of acknowledgements
	if p.share > before+0.02 {
		t.Errorf("share went from %v to %v at one acknowledgement", before, p.share)
	}
	for i := range 600 {
		p.acked(now.Add(time.Hour + time.Duration(i)*time.Second))
	}
	if p.share != 1 {
		t.Errorf("share is %v after ten minutes of acknowledgements", p.share)
	}
}

// paced returns a broker's configuration with an AWS endpoint.
func paced(b *broker) Config {
	const name = "a1-ats.iot.eu-west-1.amazonaws.com"
	b.serve(b.ca.Issue(name, nil))
	c := b.config()
	c.Endpoint = name + ":8883"
	return c
}

// A backlog for an AWS endpoint is sent within the limits, for other endpoints at once.
func TestBacklogIsPacedOnAWS(t *testing.T) {
	const n = 400
	for name, config := range map[string]func(*broker) Config{"AWS": paced, "other": (*broker).config} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, config(b))
				for i := range n {
					l.queue.Publish("t", []byte(strconv.Itoa(i)))
				}
				p := b.accept(false)
				began := time.Now()
				for i := range n {
					p.puback(p.delivery("t", strconv.Itoa(i))) // also checks the order
				}
				took := time.Since(began)
				want := time.Duration(0)
				if name == "AWS" {
					want = (n - burstMessages) * time.Second / awsMessagesPerSecond
				}
				if took < want || took > want+want/20 {
					t.Errorf("%d messages took %v, want %v", n, took, want)
				}
				l.end(t, p)
			})
		})
	}
}

// If the broker discards messages, the link reconnects and uses half the rate.
func TestNoPubackHalvesTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, paced(b))
		for i := range 300 {
			l.queue.Publish("t", []byte(strconv.Itoa(i)))
		}
		p := b.accept(false)
		for { // reads everything, acknowledges nothing
			if _, err := p.read(); err != nil {
				break
			}
		}
		p.hangUp()
		synctest.Wait()
		if l.code() != string(health.NoAcknowledgement) {
			t.Errorf("status: %v", l.Status().Err)
		}
		p = b.accept(true)
		began := time.Now()
		for i := range 200 {
			p.puback(p.delivery("t", strconv.Itoa(i)))
		}
		if d, want := time.Since(began), (200-burstMessages)*time.Second/(awsMessagesPerSecond/2); d < want*9/10 || d > want*11/10 {
			t.Errorf("took %v, want about %v", d, want)
		}
		l.end(t, p)
	})
}

// With another broker there is no limit until it does not acknowledge in time, and none
// again when the rate has recovered.
func TestNoPubackBoundsTheRateElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		const n = 300
		for i := range n {
			l.queue.Publish("t", []byte(strconv.Itoa(i)))
		}
		p := b.accept(false)
		for range l.cfg.Window {
			expect[*packets.PublishPacket](p)
		}
		p.gone() // because no PUBACK came
		p = b.accept(true)
		backlog := func(from, n int) time.Duration {
			began := time.Now()
			for i := range n {
				p.puback(p.delivery("t", strconv.Itoa(from+i)))
			}
			return time.Since(began)
		}
		const whole = (n - burstMessages) * time.Second / awsMessagesPerSecond
		if d := backlog(0, n); d < whole*6/5 || d > whole*2 { // the rate recovers meanwhile
			t.Errorf("%d messages took %v, want between half the rate and the whole", n, d)
		}
		const more = 6
		for i := range more { // half a minute of acknowledgements
			<-time.After(5 * time.Second)
			l.queue.Publish("t", []byte(strconv.Itoa(n+i)))
			backlog(n+i, 1)
		}
		for i := range n {
			l.queue.Publish("t", []byte(strconv.Itoa(n+more+i)))
		}
		if d := backlog(n+more, n); d != 0 {
			t.Errorf("when the rate had come back, %d messages took %v", n, d)
		}
		l.end(t, p)
	})
}

// A clean stop keeps the limits too, and sends the waiting messages.
func TestPacedEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, paced(b))
		p := b.accept(false)
		synctest.Wait()
		for i := range 100 {
			l.queue.Publish("t", []byte(strconv.Itoa(i)))
		}
		l.cancel()
		for i := range 100 {
			p.puback(p.delivery("t", strconv.Itoa(i)))
		}
		expect[*packets.DisconnectPacket](p)
		l.end(t, p)
	})
}

// The next message is chosen when it can be sent, so an important one does not wait for
// an earlier one that is too large to be sent yet.
func TestUrgentMailPassesWhatHadToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		c := paced(b)
		box := &urgent{Queue: NewQueue()}
		c.Outbox = box
		l := run(t, c)
		for range 8 {
			box.Publish("t", make([]byte, 96<<10))
		}
		p := b.accept(false)
		large := func() {
			if m := expect[*packets.PublishPacket](p); len(m.Payload) != 96<<10 {
				t.Fatalf("got %q", m.Payload)
			} else {
				p.puback(m.MessageID)
			}
		}
		large()
		box.answer.Store(&Publication{ID: 1 << 40, Topic: "answers", Payload: []byte("done")})
		p.puback(p.delivery("answers", "done"))
		for range 7 {
			large()
		}
		l.end(t, p)
	})
}

// urgent is a queue with one message before all others.
type urgent struct {
	*Queue
	answer atomic.Pointer[Publication]
}

func (u *urgent) Next() (Publication, bool) {
	if m := u.answer.Swap(nil); m != nil {
		return *m, true
	}
	return u.Queue.Next()
}
