package uplink

import (
	"strings"
	"time"
)

// What is sent to AWS IoT Core at most. It takes 100 publishes and 512 KiB a
// second from a connection (page "AWS IoT Core message broker and protocol
// limits and quotas") and discards what is more, without a word. With the
// bursts below no second has more than 96 publishes, nor more bytes than 416 KiB
// and one large message; which comes to 512 KiB, as one that is larger than that
// goes only after a second without any other.
const (
	awsMessages = 80        // a second
	awsBytes    = 400 << 10 // a second

	burstMessages = 16
	burstBytes    = 16 << 10
	largeBytes    = 96 << 10 // a message that is larger must have been alone for a second

	packetBytes = 16 // of a publish, besides topic and payload, generously
)

const (
	leastShare = 1.0 / 16         // of the rate, however often it is halved
	recovery   = 10 * time.Minute // from nothing to the whole rate
	elsewhere  = time.Minute      // the same where the rate is a guess: a stall that has passed must not hold up a backlog
	ackPause   = 10 * time.Second // the most that one acknowledgement counts for

	enoughDropped = 2 // connections in which messages were dropped show that there are limits
)

// pace bounds the rate of publishing by two token buckets, of messages and of
// bytes. When the broker does not acknowledge in time, it may have discarded
// what was too much for it: the rate is halved, and comes back slowly while
// acknowledgements come. For another broker than AWS IoT Core there is no bound
// until then, as its limits are not known; then AWS's is as good as any, and when
// the whole of that rate has come back, there is none again. A broker that has dropped
// messages twice has limits like AWS's, or is AWS IoT Core behind a domain of its
// owner's: it keeps the bound.
type pace struct {
	limits          Limits
	aws             bool // the bound never ends
	dropped         int  // connections in which the broker has dropped messages
	recovery        time.Duration
	messages, bytes bucket
	share           float64   // of the rate
	filled          time.Time // when the buckets were last filled
	heard           time.Time // when an acknowledgement last came
	spent           time.Time // when a message last went
}

// bucket holds tokens. It may come to owe some, and then nothing goes until they
// are paid: so a message is chosen only when it can go, and one that matters
// never waits behind another that is too large to go yet.
type bucket struct {
	rate  float64 // tokens a second
	most  float64
	level float64
}

// Limits says whether a broker's rates are those of AWS IoT Core.
type Limits string

// The limits. The empty one is LimitsAuto.
const (
	// LimitsAuto goes by the broker's name, and by what it drops.
	LimitsAuto Limits = "auto"
	// LimitsAWS keeps AWS IoT Core's rates whatever the broker's name.
	LimitsAWS Limits = "aws"
	// LimitsNone keeps none, whatever the broker's name, until the broker has not
	// acknowledged in time, and then for a minute.
	LimitsNone Limits = "none"
)

// paceFor gives the pace for a broker.
func paceFor(host string, limits Limits) *pace {
	p := &pace{
		limits: limits, recovery: elsewhere,
		messages: bucket{rate: awsMessages, most: burstMessages, level: burstMessages},
		bytes:    bucket{rate: awsBytes, most: burstBytes, level: burstBytes},
		share:    1,
	}
	h := strings.TrimSuffix(strings.ToLower(host), ".")
	named := strings.HasSuffix(h, ".amazonaws.com") || strings.HasSuffix(h, ".amazonaws.com.cn")
	if limits == LimitsAWS || named && limits != LimitsNone {
		p.likeAWS()
	}
	return p
}

// likeAWS has AWS IoT Core's rates kept from now on.
func (p *pace) likeAWS() { p.aws, p.recovery = true, recovery }

// excess notes that the broker has read a message that was sent when it may have
// been too much, and has not acknowledged it. It reports whether its limits are kept from now on because
// of that.
func (p *pace) excess() (found bool) {
	p.dropped++
	if p.aws || p.limits == LimitsNone || p.dropped < enoughDropped {
		return false
	}
	p.likeAWS()
	return true
}

// bounds reports whether there is a bound.
func (p *pace) bounds() bool { return p.aws || p.share < 1 }

// wait says for how long nothing may go; 0 when a message may go now, whatever
// its size.
func (p *pace) wait(now time.Time) time.Duration {
	if !p.bounds() {
		return 0
	}
	if elapsed := now.Sub(p.filled); elapsed > 0 {
		p.messages.fill(elapsed, p.share)
		p.bytes.fill(elapsed, p.share)
		p.filled = now
	}
	return max(p.messages.wait(p.share), p.bytes.wait(p.share))
}

// alone says for how long this message may not go, though others may.
func (p *pace) alone(m Publication, now time.Time) time.Duration {
	if !p.bounds() || packetSize(m) <= largeBytes {
		return 0
	}
	return p.spent.Add(time.Second).Sub(now)
}

// spend notes that a message goes now.
func (p *pace) spend(m Publication, now time.Time) {
	if p.bounds() {
		p.messages.level--
		p.bytes.level -= float64(packetSize(m))
		p.spent = now
	}
}

func packetSize(m Publication) int { return len(m.Payload) + len(m.Topic) + packetBytes }

// halve halves the rate.
func (p *pace) halve() {
	p.share = max(leastShare, p.share/2)
}

// acked lets the rate come back a little.
func (p *pace) acked(now time.Time) {
	if p.share < 1 {
		since := min(now.Sub(p.heard), ackPause)
		p.share = min(1, p.share+since.Seconds()/p.recovery.Seconds())
	}
	p.heard = now
}

func (b *bucket) fill(elapsed time.Duration, share float64) {
	b.level = min(b.most, b.level+b.rate*share*elapsed.Seconds())
}

// wait says how long until there is a token.
func (b *bucket) wait(share float64) time.Duration {
	missing := 1 - b.level
	if missing <= 1e-6 { // of a message or a byte: what floating-point numbers lose
		return 0
	}
	return time.Duration(missing/(b.rate*share)*float64(time.Second)) + 1
}
