package uplink

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestUnsendable(t *testing.T) {
	long := strings.Repeat("x", 257)
	for topic, want := range map[string]string{
		"test/topic":                        "",
		"a/b/c/d/e/f/g/h":                   "",
		"a/b/c/d/e/f/g/h/i":                 "has 8 slashes, want at most 7",
		long[:256]:                          "",
		long:                                "257 bytes",
		"$aws/rules/rule/a/b/c/d/e/f/g/h":   "",
		"$aws/rules/rule/a/b/c/d/e/f/g/h/i": "has 8 slashes, want at most 7",
		"$aws/rules/rule/" + long[:250]:     "",
		"":                                  "is empty",
		"a/+/b":                             "wildcard",
		"#":                                 "wildcard",
		"a\x00b":                            "control characters",
		"\xff":                              "not valid UTF-8",
	} {
		if got := unsendable(Publication{Topic: topic}); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("topic %.20q: got %q, want %q", topic, got, want)
		}
	}
	if got := unsendable(Publication{Topic: "t", Payload: make([]byte, 128<<10)}); got != "" {
		t.Errorf("128 KB: %q", got)
	}
	if got := unsendable(Publication{Topic: "t", Payload: make([]byte, 128<<10+1)}); !strings.Contains(got, "131073 bytes") {
		t.Errorf("one more: %q", got)
	}
}

func TestUnsendableIsRefusedAndTheRestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		big := l.queue.Publish("t", make([]byte, 128<<10+1))
		deep := l.queue.Publish("1/2/3/4/5/6/7/8/9", nil)
		l.queue.Publish("t", []byte("good"))
		p := b.accept(false)
		p.puback(p.delivery("t", "good"))
		synctest.Wait()
		if a, b := settled(big), settled(deep); !strings.Contains(a, "131073 bytes") || !strings.Contains(b, "slashes") {
			t.Errorf("got %q and %q", a, b)
		}
		l.end(t, p)
	})
}
