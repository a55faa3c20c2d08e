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
		"a/b/c/d/e/f/g/h/i":                 "more than 7 slashes",
		long[:256]:                          "",
		long:                                "257 bytes",
		"$aws/rules/rule/a/b/c/d/e/f/g/h":   "",
		"$aws/rules/rule/a/b/c/d/e/f/g/h/i": "more than 7 slashes",
		"$aws/rules/rule/" + long[:250]:     "",
		"":                                  "no topic",
		"a/+/b":                             "wildcard",
		"#":                                 "wildcard",
		"a\x00b":                            "not valid UTF-8",
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

func TestBadFilter(t *testing.T) {
	for filter, good := range map[string]bool{
		"a": true, "#": true, "+": true, "a/#": true, "+/a/+": true, "/": true, "$share/g/a": true,
		"": false, "a#": false, "#/a": false, "a+": false, "a/+b/c": false, "a/#/b": false, "\xff": false, "a\x00": false,
	} {
		if got := badFilter(filter); (got == "") != good {
			t.Errorf("filter %q: %q", filter, got)
		}
	}
}
