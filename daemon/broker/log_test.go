package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"fieldpost/daemon/awsiot"
)

// safeBuffer keeps what several goroutines log.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// recorder keeps records as "message key=value ...".
func recorder() (*slog.Logger, *safeBuffer) {
	buf := &safeBuffer{}
	return slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})), buf
}

// What AWS keeps to itself, the log says: who, what, on which resource, why.
func TestRefusalsAreLogged(t *testing.T) {
	log, records := recorder()
	b, err := New(Options{Dir: t.TempDir(), Log: log, Policy: policy(t,
		`{"Effect":"Allow","Action":"*","Resource":"*"},
		 {"Effect":"Deny","Action":"*","Resource":["arn:aws:iot:*:*:topic/secret","arn:aws:iot:*:*:client/laptop"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, b)
	c := dial(t, b)
	c.send(hello("laptop", true))
	c.wantClosed()
	c = join(t, b, "thing-1", true)
	c.send(publication(1, "secret", "x"))
	c.wantClosed()
	c = join(t, b, "thing-1", true)
	c.send(publication(1, "a/b/c/d/e/f/g/h/i", "x"))
	c.wantClosed()
	c = join(t, b, "thing-2", true)
	two := subscription(1, "a")
	two.Filters[0].Qos = 2
	c.send(two)
	c.wantNothing()
	goodbye(c)
	canConnect(t, b, clientTLS(t, make6(t, t.TempDir())))
	stop()
	for _, want := range []string{
		`msg="broker listening" address=` + b.Addr(),
		`msg=refused client=laptop action=iot:Connect resource=client/laptop reason="denied by statement 2 (line 2)"`,
		`msg=refused client=thing-1 action=iot:Publish resource=topic/secret reason="denied by statement 2 (line 2)"`,
		`resource=topic/a/b/c/d/e/f/g/h/i reason="topic \"a/b/c/d/e/f/g/h/i\" has 8 slashes, AWS IoT Core takes 7"`,
		`msg="qos 2 is never answered" client=thing-2 packet=Subscribe`,
		`msg="client disconnected" client=thing-2` + "\n",
	} {
		if !strings.Contains(records.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, records)
		}
	}
}

func TestSilent(t *testing.T) {
	log, records := recorder()
	b, err := New(Options{Dir: t.TempDir(), Log: log, Policy: awsiot.Tutorial(), Silent: true})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, b)
	c := dial(t, b)
	c.send(hello("my-laptop1", true))
	c.wantClosed()
	stop()
	if strings.Contains(records.String(), "refused") || strings.Contains(records.String(), "statement") {
		t.Errorf("the log says why:\n%s", records)
	}
}

// What no statement allows is refused with the nearest that would have: the tutorial's
// restricted policy and a client id that it does not name.
func TestNearestMissIsLogged(t *testing.T) {
	log, records := recorder()
	b, err := New(Options{Dir: t.TempDir(), Log: log, Policy: awsiot.Tutorial()})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, b)
	c := dial(t, b)
	c.send(hello("my-laptop1", true))
	c.wantClosed()
	stop()
	want := `client=my-laptop1 action=iot:Connect resource=client/my-laptop1 reason="allowed by no statement; ` +
		`nearest is statement 1 (restricted:4): client/my-laptop1 is not client/test-* nor client/thing-*"`
	if !strings.Contains(records.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, records)
	}
}
