package need

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
	"fieldpost/daemon/output"
	"fieldpost/sensors"
)

const prefix = "arn:aws:iot:ap-south-1:123456789012:"

// tutorial is configs/tutorial.yaml, with all on one topic.
func tutorial() *config.Config {
	return &config.Config{
		Thing:    "thing-greenhouse",
		Broker:   config.Broker{Endpoint: "a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com", ClientID: "thing-greenhouse", Will: "offline", Limits: "auto", Verify: "auto"},
		Readings: config.Readings{Topic: "test/topic"},
		Commands: config.Commands{Topic: "test/topic", Answers: "test/topic", Unstamped: "refuse"},
		Sensors:  []sensors.Config{{Name: "cpu", Chip: "thermal"}},
		Outputs:  []output.Config{{Name: "led", Pin: "GPIO27"}},
	}
}

func TestOf(t *testing.T) {
	list := func(cfg *config.Config) (all []string) {
		for _, n := range Of(cfg) {
			all = append(all, fmt.Sprintf("%s %s: %s", strings.TrimPrefix(n.Action, "iot:"), n.Resource, n.For))
		}
		return all
	}
	for name, tc := range map[string]struct {
		change func(*config.Config)
		want   []string
	}{
		"the tutorial": {func(*config.Config) {}, []string{
			"Connect client/thing-greenhouse: to connect with a persistent session and a will",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, the will, answers and events of outputs",
			"Subscribe topicfilter/test/topic: orders", "Receive topic/test/topic: orders"}},
		"apart": {func(c *config.Config) {
			c.Readings.Topic, c.Commands.Topic, c.Commands.Answers = "{thing}/{sensor}", "{thing}/orders", "{thing}/answers"
		}, []string{
			"Connect client/thing-greenhouse: to connect with a persistent session and a will",
			"Publish topic/thing-greenhouse/cpu: readings of cpu",
			"Publish topic/thing-greenhouse/fieldpost: faults, online and offline, the will",
			"Publish topic/thing-greenhouse/answers: answers and events of outputs",
			"Subscribe topicfilter/thing-greenhouse/orders: orders", "Receive topic/thing-greenhouse/orders: orders"}},
		"no outputs": {func(c *config.Config) { c.Outputs = nil }, []string{
			"Connect client/thing-greenhouse: to connect with a persistent session and a will",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, the will"}},
		"no orders by MQTT": {func(c *config.Config) { c.Commands.Topic, c.Commands.Answers = "", "" }, []string{
			"Connect client/thing-greenhouse: to connect with a persistent session and a will",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, the will, events of outputs"}},
		"unstamped orders, no will, another id": {func(c *config.Config) {
			c.Commands.Unstamped, c.Broker.Will, c.Broker.ClientID, c.Commands.Topic = "accept", "none", "x", "orders"
		}, []string{
			"Connect client/x: to connect",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, answers and events of outputs",
			"Subscribe topicfilter/orders: orders", "Receive topic/orders: orders"}},
		"unstamped, will": {func(c *config.Config) { c.Commands.Unstamped = "accept" }, []string{
			"Connect client/thing-greenhouse: to connect with a will",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, the will, answers and events of outputs",
			"Subscribe topicfilter/test/topic: orders", "Receive topic/test/topic: orders"}},
		"listens": {func(c *config.Config) { c.Outputs, c.Broker.Verify, c.Broker.Limits = nil, "subscribe", "none" }, []string{
			"Connect client/thing-greenhouse: to connect with a persistent session and a will",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, the will",
			"Subscribe topicfilter/test/topic: broker.verify", "Receive topic/test/topic: broker.verify"}},
		"does not listen on AWS": {func(c *config.Config) { c.Outputs, c.Broker.Verify = nil, "subscribe" }, []string{
			"Connect client/thing-greenhouse: to connect with a persistent session and a will",
			"Publish topic/test/topic: readings of cpu, faults, online and offline, the will"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tutorial()
			tc.change(cfg)
			if got := list(cfg); !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// What is generated for the tutorial has the tutorial's shape.
func TestGenerateTutorial(t *testing.T) {
	docs, err := Generate(tutorial(), Options{Prefix: prefix})
	if err != nil || len(docs) != 1 {
		t.Fatal(len(docs), err)
	}
	if want := `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "iot:Connect",
      "Resource": "arn:aws:iot:ap-south-1:123456789012:client/thing-greenhouse"
    },
    {
      "Effect": "Allow",
      "Action": [
        "iot:Publish",
        "iot:Receive"
      ],
      "Resource": "arn:aws:iot:ap-south-1:123456789012:topic/test/topic"
    },
    {
      "Effect": "Allow",
      "Action": "iot:Subscribe",
      "Resource": "arn:aws:iot:ap-south-1:123456789012:topicfilter/test/topic"
    }
  ]
}
`; string(docs[0]) != want {
		t.Errorf("got %s", docs[0])
	}
}

func TestGenerateRefuses(t *testing.T) {
	cfg := tutorial()
	cfg.Broker.ClientID = "x"
	if _, err := Generate(cfg, Options{Prefix: prefix, ThingVariables: true}); err == nil || !strings.Contains(err.Error(), `"x" is not the thing's name`) {
		t.Error(err)
	}
	if _, err := Generate(tutorial(), Options{Prefix: prefix, ThingVariables: true, Sender: true}); err == nil || !strings.Contains(err.Error(), "is no thing's name") {
		t.Error(err)
	}
	cfg = tutorial()
	cfg.Readings.Topic = strings.Repeat("x", 200) + "/{sensor}"
	for i := range 200 {
		cfg.Sensors = append(cfg.Sensors, sensors.Config{Name: fmt.Sprint("s", i)})
	}
	if _, err := Generate(cfg, Options{Prefix: prefix}); err == nil || !strings.Contains(err.Error(), "policies of 2048 characters, and AWS IoT attaches 10") {
		t.Error(err)
	}
}

func TestPrefix(t *testing.T) {
	cfg := tutorial()
	for _, tc := range []struct{ region, account, want, err string }{
		{"", "123456789012", prefix, ""},
		{"eu-west-1", "123456789012", "arn:aws:iot:eu-west-1:123456789012:", ""},
		{"cn-north-1", "123456789012", "arn:aws-cn:iot:cn-north-1:123456789012:", ""},
		{"us-gov-west-1", "123456789012", "arn:aws-us-gov:iot:us-gov-west-1:123456789012:", ""},
		{"", "", "", "give its twelve digits with --account"},
		{"", "1234", "", `--account "1234": want twelve digits`},
		{"Ireland", "123456789012", "", `--region "Ireland": want a region such as eu-west-1`},
		{"eu-west-1:x", "123456789012", "", "want a region"},
	} {
		got, err := Prefix(cfg, tc.region, tc.account)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%+v: got %q, %v", tc, got, err)
		}
	}
	cfg.Broker.Endpoint = "broker.example:8883"
	if _, err := Prefix(cfg, "", "123456789012"); err == nil || !strings.Contains(err.Error(), "give it with --region") {
		t.Error(err)
	}
	for in, want := range map[string]string{"arn:aws:iot:*:*": "arn:aws:iot:*:*:", prefix: prefix, "arn:aws:sns:a:b": "", "x": "", "arn:aws:iot:a:b:topic/": ""} {
		if got, err := CheckPrefix(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

// someTopic makes a topic with what makes trouble in a policy.
func someTopic(r *rand.Rand, placeholders ...string) string {
	pieces := append([]string{"a", "b/c", "*", "?", "$", "${x}", "${iot:ClientId}", "{", "é", `"`, "<&>", "\\", ":", "arn:aws:iot:", " ", "x*"}, placeholders...)
	var b strings.Builder
	for range 1 + r.IntN(4) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

func someConfig(r *rand.Rand) *config.Config {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	cfg := tutorial()
	cfg.Thing = pick("thing-1", "*", "${iot:ClientId}", "t:x")
	cfg.Broker.ClientID = pick(cfg.Thing, cfg.Thing, "client-1", "c*?", strings.Repeat("é", awsiot.ClientIDMax/2))
	cfg.Broker.Will, cfg.Commands.Unstamped = pick("offline", "none"), pick("refuse", "accept")
	cfg.Broker.Verify, cfg.Broker.Limits = pick("auto", "subscribe", "none"), pick("auto", "aws", "none")
	cfg.Readings.Topic = someTopic(r, "{thing}", "{sensor}", "{sensor}")
	cfg.Commands.Topic, cfg.Commands.Answers = someTopic(r, "{thing}"), someTopic(r, "{thing}")
	if r.IntN(3) == 0 {
		cfg.Commands.Topic = cfg.Readings.Topic
		cfg.Commands.Answers = cfg.Commands.Topic
	}
	if r.IntN(4) == 0 {
		cfg.Commands.Topic, cfg.Commands.Answers = "", ""
	}
	if r.IntN(3) == 0 {
		cfg.Outputs = nil
	}
	for i := range r.IntN(60) {
		cfg.Sensors = append(cfg.Sensors, sensors.Config{Name: fmt.Sprintf("sensor-with-a-long-name-%d", i)})
	}
	return cfg
}

// The policy that is generated for a configuration allows all that it needs and
// nothing beyond, whatever stands in its topics, in one document or several.
func TestGeneratedIsEnoughAndNoMore(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 19))
	several, variables := 0, 0
	for n := range 600 {
		cfg := someConfig(r)
		o := Options{Prefix: prefix, Sender: r.IntN(3) == 0}
		if cfg.Broker.ClientID == cfg.Thing && !o.Sender && r.IntN(2) == 0 {
			o.ThingVariables = true
			variables++
		}
		docs, err := Generate(cfg, o)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if len(docs) > 1 {
			several++
		}
		var all []*awsiot.Policy
		for _, doc := range docs {
			p, err := awsiot.Parse(doc)
			if err != nil {
				t.Fatalf("%d: %v in %s", n, err, doc)
			}
			all = append(all, p)
		}
		p, by := awsiot.Merge(all...), Connection(cfg)
		report := Simulate(cfg, p, by, prefix, o.Sender)
		if report.Denied > 0 || len(report.Beyond) > 0 || len(report.Needs) < 2 {
			t.Fatalf("%d: %+v\nof %+v\nwith %s", n, report, cfg, docs)
		}
		needed := Of(cfg)
		if o.Sender {
			needed = append(needed, Sender(cfg)...)
		}
		for _, s := range []string{"x", "a", "+", "#", "test/topic"} {
			for _, d := range []awsiot.Decision{p.Publish(by, s+"/other", false), p.Subscribe(by, s), p.Connect(&awsiot.Connection{ClientID: s})} {
				if slices.ContainsFunc(needed, func(n Need) bool { return n.Resource == d.Resource }) {
					continue
				}
				if d.Allowed {
					t.Fatalf("%d: %s on %s is %v\nwith %s", n, d.Action, d.Resource, d, docs)
				}
			}
		}
	}
	if several < 10 || variables < 20 {
		t.Errorf("%d in several documents, %d with variables: too few", several, variables)
	}
}

// What one policy for a fleet says to another board than the one it was made on.
func TestThingVariablesFitTheFleet(t *testing.T) {
	cfg := tutorial()
	cfg.Readings.Topic, cfg.Commands.Topic, cfg.Commands.Answers = "farm/{thing}/{sensor}", "farm/{thing}/orders", "farm/{thing}/answers"
	docs, err := Generate(cfg, Options{Prefix: prefix, ThingVariables: true})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(docs[0]), "thing-greenhouse") {
		t.Errorf("this board's name is in it: %s", docs[0])
	}
	p, err := awsiot.Parse(docs[0])
	if err != nil {
		t.Fatal(err)
	}
	other := *cfg
	other.Thing, other.Broker.ClientID = "thing-barn", "thing-barn"
	if r := Simulate(&other, p, Connection(&other), prefix, false); r.Denied > 0 || len(r.Beyond) > 0 {
		t.Errorf("another board: %+v", r)
	}
	if r := Simulate(cfg, p, Connection(&other), prefix, false); r.Denied != len(r.Needs) {
		t.Errorf("another board in this one's name: %+v", r)
	}
}

func TestSimulate(t *testing.T) {
	cfg := tutorial()
	cfg.Commands.Answers, cfg.Broker.Will = "test/answers", "none"
	r := Simulate(cfg, awsiot.Tutorial(), Connection(cfg), "", true)
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `allowed  iot:Connect    client/thing-greenhouse  (to connect with a persistent session)
           by statement 1 (restricted:4)
allowed  iot:Publish    topic/test/topic  (readings of cpu, faults, online and offline)
           by statement 2 (restricted:6)
DENIED   iot:Publish    topic/test/answers  (answers and events of outputs)
           allowed by no statement; nearest is statement 2 (restricted:6): topic/test/answers is not topic/test/topic
allowed  iot:Subscribe  topicfilter/test/topic  (orders)
           by statement 3 (restricted:8)
allowed  iot:Receive    topic/test/topic  (orders)
           by statement 2 (restricted:6)
allowed  iot:Connect    client/thing-greenhouse-send-0000  (send --via mqtt)
           by statement 1 (restricted:4)
allowed  iot:Publish    topic/test/topic  (send --via mqtt)
           by statement 2 (restricted:6)
DENIED   iot:Subscribe  topicfilter/test/answers  (answers to send --via mqtt)
           allowed by no statement; nearest is statement 3 (restricted:8): topicfilter/test/answers is not topicfilter/test/topic
DENIED   iot:Receive    topic/test/answers  (answers to send --via mqtt)
           allowed by no statement; nearest is statement 2 (restricted:6): topic/test/answers is not topic/test/topic
beyond   iot:Connect on client/test-*
           by statement 1 (restricted:4)
beyond   iot:Connect on client/thing-*
           by statement 1 (restricted:4)
beyond   iot:Connect on client/thing-greenhouse with LastWill
           by statement 1 (restricted:4)
assumed: thing "thing-greenhouse" is registered and the certificate attached to it
assumed: nothing is known of the certificate
`
	if out.String() != want || r.Denied != 3 {
		t.Errorf("denied %d\ngot\n%s\nwant\n%s", r.Denied, out.String(), want)
	}
}

// What goes beyond is found where it is hidden, and not where a Deny takes it away.
func TestBeyond(t *testing.T) {
	const enough = `{"Effect":"Allow","Action":"*","Resource":["arn:aws:iot:*:*:client/thing-greenhouse","arn:aws:iot:*:*:topicfilter/test/topic"]},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:*:*:topic/test/topic"}`
	for name, tc := range map[string]struct {
		statements string
		want       []string
	}{
		"nothing":          {"", nil},
		"one more":         {`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/x"}`, []string{"[iot:Publish] topic/x"}},
		"one more, denied": {`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/x"},{"Effect":"Deny","Action":"*","Resource":"arn:aws:iot:*:*:topic/x"}`, nil},
		"retained":         {`{"Effect":"Allow","Action":"iot:*Publish","Resource":"arn:aws:iot:*:*:topic/test/topic"}`, []string{"[iot:RetainPublish] topic/test/topic"}},
		"another's":        {`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/${iot:Connection.Thing.ThingTypeName}"}`, nil},
		"its own":          {`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/${iot:ClientId}"}`, []string{"[iot:Publish] topic/thing-greenhouse"}},
		"all filters":      {`{"Effect":"Allow","Action":"iot:Subscribe","Resource":"*"}`, []string{"[iot:Subscribe] topicfilter/*"}},
		"all but one":      {`{"Effect":"Allow","Action":"iot:Receive","NotResource":"arn:aws:iot:*:*:topic/x"}`, []string{"[iot:Receive] all but topic/x"}},
		"shadow":           {`{"Effect":"Allow","Action":"iot:*ThingShadow","Resource":"arn:aws:iot:*:*:thing/x"}`, []string{"[iot:DeleteThingShadow iot:GetThingShadow iot:UpdateThingShadow] thing/x"}},
		"wildcard denied":  {`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/x*"},{"Effect":"Deny","Action":"iot:Publish","NotResource":"arn:aws:iot:*:*:topic/test/topic"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			text := enough
			if tc.statements != "" {
				text += "," + tc.statements
			}
			p, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + text + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			r := Simulate(tutorial(), p, Connection(tutorial()), prefix, false)
			var got []string
			for _, x := range r.Beyond {
				got = append(got, fmt.Sprint(x.Actions, " ", x.Resource))
			}
			if r.Denied > 0 || !slices.Equal(got, tc.want) {
				t.Errorf("denied %d, beyond %q, want %q", r.Denied, got, tc.want)
			}
		})
	}
}

// The client id of send is no longer than brokers take, whatever the daemon's is.
func TestSenderOfLongID(t *testing.T) {
	cfg := tutorial()
	for id, want := range map[string]string{
		"thing-1":                           "thing-1-send-0000",
		strings.Repeat("x", 128):            strings.Repeat("x", 118) + "-send-0000",
		"y" + strings.Repeat("é", 63) + "z": "y" + strings.Repeat("é", 58) + "-send-0000",
	} {
		if cfg.Broker.ClientID = id; senderOf(cfg) != want {
			t.Errorf("%s: got %s", id, senderOf(cfg))
		}
	}
}
