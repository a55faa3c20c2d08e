package mqtt5

import (
	"bufio"
	"bytes"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever a broker sends, reading ends with a packet or an error, and takes no more memory
// than the largest packet.
func FuzzReadPacket(f *testing.F) {
	f.Add([]byte{0x20, 3, 1, 0, 0})                                    // CONNACK
	f.Add([]byte{0x90, 4, 0, 1, 0, 135})                               // SUBACK
	f.Add([]byte("\x20\x0b\x00\x85\x08\x1f\x00\x05no id"))             // with a reason string
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})                        // 256 MiB
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff})                  // a length of five bytes
	f.Add([]byte{0x40, 2})                                             // cut off
	f.Add([]byte{0x90, 0})                                             // too short
	f.Add([]byte{0xe0, 2, 142, 0, 0x30, 7, 0, 1, 'a', 0, 'h', 'i', 0}) // DISCONNECT, PUBLISH
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := &Conn{r: bufio.NewReader(bytes.NewReader(sent))}
		for range len(sent) + 1 {
			p, err := c.readPacket()
			if err != nil {
				return
			}
			if p == nil || p.Content == nil {
				t.Fatal("neither a packet nor an error")
			}
		}
		t.Fatal("more packets than bytes")
	})
}
