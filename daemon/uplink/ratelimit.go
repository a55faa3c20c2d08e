package uplink

import (
	"strings"
	"time"
)

// Limits for sending to AWS IoT Core. It accepts 100 publishes and 512 KiB per second from a
// connection (page "AWS IoT Core message broker and protocol limits and quotas") and discards
// the rest without a notice. With the bursts below, no second has more than 96 publishes, or
// more bytes than 416 KiB and one large message. That is at most 512 KiB, because a message
// that is larger than largeBytes is sent only after a second without any other.
const (
	awsMessagesPerSecond = 80
	awsBytesPerSecond    = 400 << 10

	burstMessages = 16
	burstBytes    = 16 << 10
	largeBytes    = 96 << 10 // a larger message must have a second of its own

	packetOverhead = 16 // bytes of a PUBLISH in addition to topic and payload, rounded up
)

const (
	minShare          = 1.0 / 16         // of the rate, the least that halving leaves
	recoveryAWS       = 10 * time.Minute // time to recover from nothing to the full rate
	recoveryElsewhere = time.Minute      // the same if the rate is a guess, so that a past stall does not hold up a backlog
	maxAckGap         = 10 * time.Second // the most time that one acknowledgement counts for

	dropsToBelieve = 2              // after drops in this many connections the broker is held to have limits
	believeFor     = 24 * time.Hour // so long, and drops that are further apart do not count together
)

// rateLimiter bounds the rate of publishing with two token buckets, for messages and for
// bytes. If the broker does not acknowledge in time, it may have discarded messages: the rate
// is halved, and recovers slowly while acknowledgements come. For brokers other than AWS IoT
// Core there is no bound at first, because their limits are not known. Then AWS's limits are
// as good as any; once the full rate is reached, there is no bound again. A broker that has
// dropped messages twice within a day has limits like AWS's, or is AWS IoT Core behind a custom
// domain: for it the bound stays. A broker that was only overloaded looks the same, so after
// a day without such a drop there is no bound again.
type rateLimiter struct {
	limits          Limits
	aws             bool      // the bound is there at the full rate too
	dropped         int       // number of connections in which the broker has dropped messages
	droppedAt       time.Time // when it last did
	believed        bool      // the bound is there because of that
	recovery        time.Duration
	messages, bytes bucket
	share           float64   // the part of the rate that is used
	refilled        time.Time // when the buckets were last refilled
	lastAck         time.Time // when an acknowledgement last came
	lastSent        time.Time // when a message was last sent
}

// bucket holds tokens. The balance may become negative; then nothing is sent until it is
// positive again. So a message is chosen only when it can be sent, and an urgent one never
// waits behind another that is too large to send yet.
type bucket struct {
	rate     float64 // tokens per second
	capacity float64
	tokens   float64
}

// Limits says whether a broker's rates are those of AWS IoT Core.
type Limits string

// The limits. The empty one is LimitsAuto.
const (
	// LimitsAuto decides by the broker's name and by what it drops.
	LimitsAuto Limits = "auto"
	// LimitsAWS keeps to AWS IoT Core's rates whatever the broker's name is.
	LimitsAWS Limits = "aws"
	// LimitsNone has no limit, whatever the broker's name is. If the broker does not
	// acknowledge in time, there is one for a minute.
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

// keepAWSLimits keeps to AWS IoT Core's rates.
func (p *rateLimiter) keepAWSLimits() { p.aws, p.recovery = true, recoveryAWS }

// noteDropped records that the broker has read a message that was sent above AWS's rate and
// has not acknowledged it. It reports whether AWS's limits are kept from now on because of this.
func (p *rateLimiter) noteDropped(now time.Time) (found bool) {
	p.forgetDrops(now)
	p.dropped, p.droppedAt = p.dropped+1, now
	if p.aws || p.limits == LimitsNone || p.dropped < dropsToBelieve {
		return false
	}
	p.believed = true
	p.keepAWSLimits()
	return true
}

// forgetDrops ends what was concluded from drops that are a day old.
func (p *rateLimiter) forgetDrops(now time.Time) {
	if p.dropped == 0 || now.Sub(p.droppedAt) < believeFor {
		return
	}
	p.dropped = 0
	if p.believed {
		p.believed, p.aws, p.recovery, p.share = false, false, recoveryElsewhere, 1
	}
}

// active reports whether there is a bound.
func (p *rateLimiter) active() bool { return p.aws || p.share < 1 }

// wait returns how long nothing may be sent; 0 if a message of any size may be sent now.
func (p *rateLimiter) wait(now time.Time) time.Duration {
	p.forgetDrops(now)
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

// waitForLarge returns how long a large message must wait, while others may be sent.
func (p *rateLimiter) waitForLarge(m Publication, now time.Time) time.Duration {
	if !p.active() || packetSize(m) <= largeBytes {
		return 0
	}
	return p.lastSent.Add(time.Second).Sub(now)
}

// noteSent records that a message is sent now.
func (p *rateLimiter) noteSent(m Publication, now time.Time) {
	if p.active() {
		p.messages.tokens--
		p.bytes.tokens -= float64(packetSize(m))
		p.lastSent = now
	}
}

// packetSize returns the approximate size of a message's PUBLISH packet, in bytes.
func packetSize(m Publication) int { return len(m.Payload) + len(m.Topic) + packetOverhead }

// halve halves the rate.
func (p *rateLimiter) halve() {
	p.share = max(minShare, p.share/2)
}

// acked makes the rate recover a little.
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

// wait returns how long until there is a token.
func (b *bucket) wait(share float64) time.Duration {
	missing := 1 - b.tokens
	if missing <= 1e-6 { // rounding error of floating-point numbers
		return 0
	}
	return time.Duration(missing/(b.rate*share)*float64(time.Second)) + 1
}

// sentMeter counts what was sent in the current second.
type sentMeter struct {
	began           time.Time
	messages, bytes int
}

// add counts a message. It reports whether as much was already sent in that second as AWS IoT
// Core accepts.
func (c *sentMeter) add(m Publication, now time.Time) (overAWSRate bool) {
	if now.Sub(c.began) >= time.Second {
		*c = sentMeter{began: now}
	}
	c.messages, c.bytes = c.messages+1, c.bytes+packetSize(m)
	return c.messages > awsMessagesPerSecond || c.bytes > awsBytesPerSecond
}
