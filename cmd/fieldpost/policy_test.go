package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
)

// configs/README.md shows the output of fieldpost policy as it is.
func TestPolicyInDocuments(t *testing.T) {
	text := documents(t)["configs/README.md"]
	blocks := regexp.MustCompile("(?ms)^```\n\\$ fieldpost (policy .*?)\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	if len(blocks) < 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	t.Chdir(root)
	for _, b := range blocks {
		c := newRoot()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(strings.Fields(b[1]))
		_ = c.Execute() // lint fails if it finds a trap
		if out.String() != b[2] {
			t.Errorf("fieldpost %s prints\n%s\nconfigs/README.md shows\n%s", b[1], out.String(), b[2])
		}
	}
}

// Lint knows the traps that configs/README.md lists.
func TestTrapsInDocuments(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "daemon/awsiot/lint.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(documents(t)["configs/README.md"], "| trap | what happens |")
	table, _, _ = strings.Cut(table, "\n\n") // other tables follow
	rows := regexp.MustCompile("(?m)^\\| (`.+?) \\|").FindAllStringSubmatch(table, -1)
	if len(rows) < 9 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		for code := range strings.SplitSeq(strings.ReplaceAll(row[1], "`", ""), ", ") {
			if !strings.Contains(string(source), `"`+code+`"`) {
				t.Errorf("lint knows no %q", code)
			}
		}
	}
}

// The restricted policy in configs/policies is the one that the README shows and the demo
// uses.
func TestRestrictedPolicy(t *testing.T) {
	p, err := need.Read(nil, filepath.Join(root, "configs/policies/restricted.json"))
	if err != nil {
		t.Fatal(err)
	}
	shown := ""
	for _, m := range jsonBlock.FindAllStringSubmatch(documents(t)["configs/README.md"], -1) {
		if strings.Contains(m[1], `"Statement"`) {
			shown = m[1]
		}
	}
	readme, err := awsiot.Parse([]byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:RetainPublish"} {
		for _, resource := range []string{"client/test-1", "client/thing-1", "client/my-laptop1", "topic/test/topic", "topic/test/other", "topicfilter/test/topic", "topicfilter/test/#", "topicfilter/#"} {
			r := awsiot.Request{Action: action, Resource: resource}
			want := awsiot.Tutorial().Decide(r).Allowed
			if got := p.Decide(r).Allowed; got != want {
				t.Errorf("%s on %s: the file says %v, the demo %v", action, resource, got, want)
			}
			r.Resource = "arn:aws:iot:ap-south-1:123456789012:" + resource
			if got := readme.Decide(r).Allowed; got != want {
				t.Errorf("%s on %s: the README says %v, the demo %v", action, resource, got, want)
			}
		}
	}
}

// For each configuration in configs, the generated policy allows what it needs and
// nothing more, for one board and for a fleet.
func TestPoliciesOfConfigurations(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "configs/*.yaml"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for _, variables := range []bool{false, true} {
			cfg, err := config.LoadWithoutFiles(file)
			if err != nil {
				t.Fatal(err)
			}
			if variables && cfg.Broker.ClientID != cfg.Thing {
				continue
			}
			docs, err := need.Generate(cfg, need.Options{Prefix: "arn:aws:iot:eu-west-1:210987654321:", ThingVariables: variables})
			if err != nil || len(docs) != 1 {
				t.Fatal(file, len(docs), err)
			}
			p, err := awsiot.Parse(docs[0])
			if err != nil {
				t.Fatal(err)
			}
			if r := need.Simulate(cfg, p, need.Connection(cfg), "", false); r.Denied > 0 || len(r.Beyond) > 0 {
				t.Errorf("%s: %+v", file, r)
			}
			for _, f := range p.Lint() {
				if f.Severity == awsiot.Trap {
					t.Errorf("%s: %v", file, f)
				}
			}
		}
	}
}

// lines collects what is written, and passes each line to a function.
type lines struct {
	mu   sync.Mutex
	all  bytes.Buffer
	each chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(p)
	for line := range strings.SplitSeq(strings.TrimSuffix(string(p), "\n"), "\n") {
		select {
		case l.each <- line:
		default:
		}
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// The tutorial's clients against the broker with the restricted policy: a client id that
// the policy does not name is refused, and the log says what would be allowed. One that
// it names works.
func TestTutorialWithPolicy(t *testing.T) {
	policy, err := filepath.Abs(filepath.Join(root, "configs/policies/restricted.json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	out, log := &lines{each: make(chan string, 16)}, &lines{each: make(chan string, 64)}
	b := newRoot()
	b.SetOut(out)
	b.SetErr(log)
	b.SetArgs([]string{"broker", "--listen", "127.0.0.1:0", "--policy", policy})
	done := make(chan error, 1)
	go func() { done <- b.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	endpoint := ""
	for said := ""; !strings.HasPrefix(said, "This is a stand-in for AWS IoT Core. It does not:"); {
		select {
		case said = <-out.each:
		case err := <-done:
			done <- err
			t.Fatal(err)
		}
		if rest, ok := strings.CutPrefix(said, "endpoint "); ok {
			endpoint = strings.TrimSpace(rest)
		}
	}
	if !strings.Contains(out.String(), "policy      "+policy+"\n") {
		t.Errorf("at its start it says\n%s", out)
	}
	run := func(args ...string) (string, error) {
		c := newRoot()
		var printed bytes.Buffer
		c.SetOut(&printed)
		c.SetErr(&printed)
		c.SetArgs(append(args, "--endpoint", endpoint))
		err := c.ExecuteContext(ctx)
		return printed.String(), err
	}
	if printed, err := run("pub", "--client-id", "my-laptop1", "--count", "1"); err == nil {
		t.Errorf("my-laptop1 may publish: %s", printed)
	}
	want := "action=iot:Connect resource=client/my-laptop1 reason=\"allowed by no statement; nearest is statement 1 (" + policy + ":4): client/my-laptop1 is not client/test-* nor client/thing-*\""
	for !strings.Contains(log.String(), want) {
		select {
		case <-log.each:
		case err := <-done:
			done <- err
			t.Fatalf("%v; the log lacks %s:\n%s", err, want, log)
		}
	}
	printed, err := run("pub", "--client-id", "test-123", "--count", "2", "--every", "1ms")
	if err != nil || strings.Count(printed, "published to test/topic") != 2 {
		t.Errorf("%v: %s", err, printed)
	}
}
