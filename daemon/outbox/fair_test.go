package outbox

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
)

// Ten inputs at 1 kHz beside ten sensors at 1 Hz, an order's answer and a calm
// input's edge now and then, on a link that takes 8 KiB or 80 messages a second
// and has up to 32 messages under way: answers, readings and the edges of the calm
// input keep their time, with batches too, and one batch after the other is full of
// edges.
func TestAFairShareOfMail(t *testing.T) {
	for _, batch := range []config.Batch{{}, {Max: 20, Within: time.Second}} {
		for name, takes := range map[string]func(uplink.Publication) time.Duration{
			"8 KiB/s": func(m uplink.Publication) time.Duration {
				return time.Duration(len(m.Payload)+50) * time.Second / (8 << 10)
			},
			"80 messages/s": func(uplink.Publication) time.Duration { return time.Second / 80 },
		} {
			t.Run(fmt.Sprintf("%s, batches of %d", name, batch.Max), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x := newBoxed(t, "test/{sensor}", batch)
					keeping := task.Start("spool", make(chan error, 1), x.Spool.Run)
					c := mailCrowd{boxed: x, since: map[string]time.Time{}, late: map[string]time.Duration{}, count: map[string]int{}}
					const seconds = 30
					c.run(seconds, takes)
					t.Logf("latest: %v; arrived: %v in %d arrays", c.late, c.count, c.arrays)
					allowed := 2*time.Second + 4*batch.Within
					for _, class := range []string{"answer", "air", "door"} {
						if c.late[class] > allowed {
							t.Errorf("%s after %v", class, c.late[class])
						}
					}
					if c.count["air"] < 10*(seconds-int(allowed.Seconds())-1) || c.count["loose"] < 15*seconds {
						t.Errorf("arrived: %v", c.count)
					}
					if batch.Max > 0 && c.count["loose"] < 5*c.arrays {
						t.Errorf("%v in %d arrays", c.count, c.arrays)
					}
					if err := keeping.Stop(time.Minute); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// mailCrowd is the inputs and sensors, and what has arrived of theirs.
type mailCrowd struct {
	*boxed
	since  map[string]time.Time
	late   map[string]time.Duration
	count  map[string]int
	arrays int
}

// millisecond is what is taken in one.
func (c *mailCrowd) millisecond(n int) {
	for i := range 10 {
		c.put(message.Edge, fmt.Sprint("loose", i), "")
	}
	timed := func(k message.Kind, sensor string) {
		c.put(k, sensor, "")
		c.since[fmt.Sprint(sensor, c.seq[sensor])] = time.Now()
	}
	if n%100 == 0 {
		timed(message.Reading, fmt.Sprint("air", n/100%10))
	}
	if n%3000 == 1500 {
		timed(message.Edge, "door")
	}
	if n%5000 == 2500 {
		timed(message.Answer, fmt.Sprint("answer", n))
	}
}

func (c *mailCrowd) run(seconds int, takes func(uplink.Publication) time.Duration) {
	type flight struct {
		uplink.Publication
		at time.Time
	}
	var under []flight
	free, bytes := time.Now(), 0
	for n := range seconds * 1000 {
		c.millisecond(n)
		for len(under) > 0 && !time.Now().Before(under[0].at) {
			c.arrived(under[0].Publication)
			bytes -= len(under[0].Payload)
			under = under[1:]
		}
		for len(under) < 32 && bytes < 16<<10 {
			m, ok := c.Next()
			if !ok {
				break
			}
			if free.Before(time.Now()) {
				free = time.Now()
			}
			free = free.Add(takes(m))
			bytes += len(m.Payload)
			under = append(under, flight{m, free})
		}
		<-time.After(time.Millisecond)
	}
}

// arrived takes note of a mail that has come.
func (c *mailCrowd) arrived(m uplink.Publication) {
	c.Ack(m.ID)
	type message struct {
		Sensor string
		Seq    int
	}
	var many []message
	if json.Unmarshal(m.Payload, &many) != nil {
		many = make([]message, 1)
		if err := json.Unmarshal(m.Payload, &many[0]); err != nil {
			c.t.Fatal(err)
		}
	} else {
		c.arrays++
	}
	for _, r := range many {
		class := r.Sensor
		for class != "" && class[len(class)-1] <= '9' {
			class = class[:len(class)-1]
		}
		c.count[class]++
		if at, timed := c.since[fmt.Sprint(r.Sensor, r.Seq)]; timed {
			c.late[class] = max(c.late[class], time.Since(at))
		}
	}
}
