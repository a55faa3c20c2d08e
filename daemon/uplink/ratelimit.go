package uplink

import (
	"strings"
	"time"
)

// What is sent to AWS IoT Core at most. It takes 100 publishes and 512 KiB a second
// from a connection (page "AWS IoT Core message broker and protocol limits and
// quotas") and discards what is more, without a word. With the bursts below no second
// has more than 96 publishes, nor more bytes than 416 KiB and one large message; which
// comes to 512 KiB, as one that is larger than that goes only after a second without
// any other.
const (
	awsMessagesPerSecond = 80
	awsBytesPerSecond    = 400 << 10

	burstMessages = 16
	burstBytes    = 16 << 10
	largeBytes    = 96 << 10 // a message that is larger must have been alone for a second

	packetOverhead = 16 // bytes of a PUBLISH besides topic and payload, generously
)

const (
	minShare          = 1.0 / 16         // of the rate, however often it is halved
	recoveryAWS       = 10 * time.Minute // from nothing to the whole rate
	recoveryElsewhere = time.Minute      // the same where the rate is a guess: a stall that has passed must not hold up a backlog
	maxAckGap         = 10 * time.Second // the most that one acknowledgement counts for

	dropsToBelieve = 2 // connections in which messages were dropped show that there are limits
)

// rateLimiter bounds the rate of publishing by two token buckets, of messages and of
// bytes. When the broker does not acknowledge in time, it may have discarded what was
// too much for it: the rate is halved, and comes back slowly while acknowledgements
// come. For another broker than AWS IoT Core there is no bound until then, as its
// limits are not known; then AWS's is as good as any, and when the whole of that rate
// has come back, there is none again. A broker that has dropped messages twice has
// limits like AWS's, or is AWS IoT Core behind a domain of its owner's: it keeps the
// bound.
type rateLimiter struct {
	limits          Limits
	aws             bool // the bound never ends
	dropped         int  // connections in which the broker has dropped messages
	recovery        time.Duration
	messages, bytes bucket
	share           float64   // of the rate
	refilled        time.Time // when the buckets last were
	lastAck         time.Time // when an acknowledgement last came
	lastSent        time.Time // when a message last went
}

// bucket holds tokens. It may come to owe some, and then nothing goes until they are
// paid. So a message is chosen only when it can go, and an urgent one never waits
// behind another that is too large to go yet.
type bucket struct {
	rate     float64 // tokens a second
	capacity float64
	tokens   float64
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

// newRateLimiter makes the limiter for the broker at host.
func newRateLimiter(host string, limits Limits) *rateLimiter {
	p := &rateLimiter{
		limits: limits, recovery: recoveryElsewhere,
		messages: bucket{rate: awsMessagesPerSecond, capacity: burstMessages, tokens: burstMessages},
		bytes:    bucket{rate: awsBytesPerSecond, capacity: burstBytes, tokens: burstBytes},
		share:    1,
	}
	h := strings.TrimSuffix(strings.ToLower(host), ".")
	named := strings.HasSuffix(h, ".amazonaws.com") || strings.HasSuffix(h, ".amazonaws.com.cn")
	if limits == LimitsAWS || named && limits != LimitsNone {
		p.keepAWSLimits()
	}
	return p
}

// keepAWSLimits keeps AWS IoT Core's rates from now on.
func (p *rateLimiter) keepAWSLimits() { p.aws, p.recovery = true, recoveryAWS }

// noteDropped notes that the broker has read a message that was sent when it may have
// been too much, and has not acknowledged it. It reports whether AWS's limits are kept
// from now on because of that.
func (p *rateLimiter) noteDropped() (found bool) {
	p.dropped++
	if p.aws || p.limits == LimitsNone || p.dropped < dropsToBelieve {
		return false
	}
	p.keepAWSLimits()
	return true
}

// active reports whether there is a bound.
func (p *rateLimiter) active() bool { return p.aws || p.share < 1 }

// wait gives for how long nothing may go; 0 when a message may go now, whatever its
// size.
func (p *rateLimiter) wait(now time.Time) time.Duration {
	if !p.active() {
		return 0
	}
	if elapsed := now.Sub(p.refilled); elapsed > 0 {
		p.messages.refill(elapsed, p.share)
		p.bytes.refill(elapsed, p.share)
		p.refilled = now
	}
	return max(p.messages.wait(p.share), p.bytes.wait(p.share))
}

// waitForLarge gives for how long a large message may not go, though others may.
func (p *rateLimiter) waitForLarge(m Publication, now time.Time) time.Duration {
	if !p.active() || packetSize(m) <= largeBytes {
		return 0
	}
	return p.lastSent.Add(time.Second).Sub(now)
}

// noteSent notes that a message goes now.
func (p *rateLimiter) noteSent(m Publication, now time.Time) {
	if p.active() {
		p.messages.tokens--
		p.bytes.tokens -= float64(packetSize(m))
		p.lastSent = now
	}
}

// packetSize gives the size of a message's PUBLISH packet, in bytes, roughly.
func packetSize(m Publication) int { return len(m.Payload) + len(m.Topic) + packetOverhead }

// halve halves the rate.
func (p *rateLimiter) halve() {
	p.share = max(minShare, p.share/2)
}

// acked lets the rate come back a little.
func (p *rateLimiter) acked(now time.Time) {
	if p.share < 1 {
		since := min(now.Sub(p.lastAck), maxAckGap)
		p.share = min(1, p.share+since.Seconds()/p.recovery.Seconds())
	}
	p.lastAck = now
}

func (b *bucket) refill(elapsed time.Duration, share float64) {
	b.tokens = min(b.capacity, b.tokens+b.rate*share*elapsed.Seconds())
}

// wait gives how long until there is a token.
func (b *bucket) wait(share float64) time.Duration {
	missing := 1 - b.tokens
	if missing <= 1e-6 { // of a message or a byte: what floating-point numbers lose
		return 0
	}
	return time.Duration(missing/(b.rate*share)*float64(time.Second)) + 1
}

// sentMeter counts what was sent in the present second.
type sentMeter struct {
	began           time.Time
	messages, bytes int
}

// add counts a message. It reports whether so much was sent already in that second as
// AWS IoT Core takes.
func (c *sentMeter) add(m Publication, now time.Time) (overAWSRate bool) {
	if now.Sub(c.began) >= time.Second {
		*c = sentMeter{began: now}
	}
	c.messages, c.bytes = c.messages+1, c.bytes+packetSize(m)
	return c.messages > awsMessagesPerSecond || c.bytes > awsBytesPerSecond
}
