package uplink

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// arrival is a PUBLISH at the broker.
type arrival struct {
	at   time.Time
	size int // bytes of the whole packet
}

// busiestSecond returns the largest number of messages, and of bytes, in any one second.
func busiestSecond(all []arrival) (messages, bytes int) {
	for i := range all {
		n, sum := 0, 0
		for _, a := range all[i:] {
			if a.at.Sub(all[i].at) >= time.Second {
				break
			}
			n, sum = n+1, sum+a.size
		}
		messages, bytes = max(messages, n), max(bytes, sum)
	}
	return messages, bytes
}

// A backlog is sent at 95 % or more of AWS IoT Core's limit, of messages or of bytes,
// whichever is reached first, although each PUBACK takes a third of a second. No second
// exceeds the limits.
func TestBacklogUsesTheRate(t *testing.T) {
	const (
		trip    = 330 * time.Millisecond
		seconds = 60
	)
	for name, size := range map[string]int{"single readings": 180, "small batches": 4 << 10, "full batches": 96<<10 - 64} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				l := run(t, paced(b))
				payload := make([]byte, size)
				for range min(awsMessagesPerSecond, awsBytesPerSecond/size)*seconds*11/10 + 40 {
					l.queue.Publish("test/topic", payload)
				}
				p := b.accept(false)
				began := time.Now()
				var all []arrival
				for time.Since(began) < seconds*time.Second {
					m := expect[*packets.PublishPacket](p)
					all = append(all, arrival{time.Now(), len(m.TopicName) + len(m.Payload) + packetOverhead})
					ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
					ack.MessageID = m.MessageID
					time.AfterFunc(trip, func() { _ = ack.Write(p.conn) }) // the connection may be closed at the end
				}
				took := all[len(all)-1].at.Sub(began).Seconds()
				sum := 0
				for _, a := range all {
					sum += a.size
				}
				ofBytes, ofMessages := float64(sum)/took/awsBytesPerSecond, float64(len(all))/took/awsMessagesPerSecond
				n, most := busiestSecond(all)
				t.Logf("%.1f %% of the configured bytes (%.1f %% of AWS's), %.1f %% of the messages (%.1f %% of AWS's); in the busiest second %d messages, %d KiB",
					100*ofBytes, 100*ofBytes*awsBytesPerSecond/(512<<10), 100*ofMessages, 100*ofMessages*awsMessagesPerSecond/100, n, most>>10)
				if max(ofBytes, ofMessages) < 0.95 {
					t.Errorf("%.1f %% of the bytes and %.1f %% of the messages, want 95 %% of either", 100*ofBytes, 100*ofMessages)
				}
				if n > 100 || most > 512<<10 {
					t.Errorf("%d messages and %d bytes in one second", n, most)
				}
				l.end(t, p)
				<-time.After(trip)
			})
		})
	}
}

// With messages of any size, in any order, no second exceeds AWS's limits, and the
// largest ones are sent.
func TestMixedSizesKeepTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, paced(b))
		random := rand.New(rand.NewPCG(1, 2))
		const n = 600
		for range n {
			size := 100
			switch random.IntN(4) {
			case 0:
				size = 128 << 10
			case 1:
				size = random.IntN(128 << 10)
			case 2:
				size = random.IntN(8 << 10)
			}
			l.queue.Publish("test/topic", make([]byte, size))
		}
		p := b.accept(false)
		var all []arrival
		for range n {
			m := expect[*packets.PublishPacket](p)
			all = append(all, arrival{time.Now(), len(m.TopicName) + len(m.Payload) + packetOverhead})
			p.puback(m.MessageID)
		}
		if n, most := busiestSecond(all); n > 100 || most > 512<<10 {
			t.Errorf("%d messages and %d bytes in one second", n, most)
		}
		l.end(t, p)
	})
}
