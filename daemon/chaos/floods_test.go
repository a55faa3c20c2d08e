//go:build chaos && linux

package chaos

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// largeMessages sends many messages, each far larger than an order, to the topic of
// orders: while the daemon runs, or while it does not, so that the broker keeps them.
func (c *testbed) largeMessages() func() {
	name := filepath.Join(c.dir, "large")
	c.put(name, c.large())
	off := c.random.IntN(2) == 0
	if off {
		c.kill()
	}
	c.publish(c.ordersTopic, nil, "-f", name, "--repeat", "90")
	if off {
		c.start()
	}
	return nil
}

// large returns a message of at most 870 kB, the largest size in a reported case.
func (c *testbed) large() []byte {
	size := 64<<10 + c.random.IntN(806_000)
	switch c.random.IntN(4) {
	case 0:
		return make([]byte, size)
	case 1: // JSON of many small keys
		var b bytes.Buffer
		b.WriteByte('{')
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		b.WriteString(`"action":"on"}`)
		return b.Bytes()
	case 2: // deeply nested
		return bytes.Repeat([]byte(`{"action":[`), size/11)
	}
	// An order that is too large.
	order := fmt.Sprintf(`{"id":"%slarge-%d","output":"pump","action":"on","for":"1s","expires":%q}`, floodPrefix, c.random.IntN(1000), time.Now().Add(time.Minute).UTC().Format(time.RFC3339))
	return []byte(order + strings.Repeat(" ", size))
}

// floodPrefix is the prefix of the ids of orders in floods. None of them may act, and
// their answers are not waited for.
const floodPrefix = "m-"

// malformedOrders sends hundreds of malformed orders at once.
func (c *testbed) malformedOrders() func() {
	past, soon := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	kinds := []string{
		`{"action":"on","output":"pump"}`,
		`{"id":"%s%d","action":"explode","output":"pump","expires":"` + soon + `"}`,
		`{"id":"%s%d","action":"on","output":"reactor","expires":"` + soon + `"}`,
		`{"id":"%s%d","action":"on","output":"pump","expires":"` + past + `"}`,
		`{"id":"%s%d","action":"on","output":"pump","expires":"tomorrow"}`,
		`{"id":"%s%d","id":"twice","action":"on","output":"pump"}`,
		`{"id":"%s%d","action":"on","output":"pump","for":"-1s","expires":"` + soon + `"}`,
		`{"id":7,"action":"on"}`,
		`{"action":`,
		`[1,2,3]`,
	}
	var all strings.Builder
	for i := range 200 + c.random.IntN(800) {
		kind := kinds[c.random.IntN(len(kinds))]
		if strings.Contains(kind, "%s%d") {
			kind = fmt.Sprintf(kind, floodPrefix, i)
		}
		all.WriteString(kind + "\n")
	}
	c.publish(c.ordersTopic, []byte(all.String()), "-l")
	return nil
}
