package need

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"
)

// Options say how a policy is generated.
type Options struct {
	// Prefix begins each ARN: "arn:aws:iot:eu-west-1:123456789012:". [Prefix] makes it.
	Prefix string
	// ThingVariables puts ${iot:Connection.Thing.ThingName} where the thing's name
	// comes from thing in the configuration, so that one policy fits a fleet.
	ThingVariables bool
	// Sender includes what fieldpost send --via mqtt needs.
	Sender bool
}

// most is how many policies AWS IoT attaches to one certificate.
const most = 10

const (
	thingName = "${iot:Connection.Thing.ThingName}"
	mark      = "\x00" // stands for the thing's name; no topic may hold it
)

var (
	accounts = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{12}$`) })
	regions  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`) })
	prefixes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^arn:[^:]+:iot:[^:]+:[^:]+:$`) })
)

// Prefix makes the beginning of ARNs. A region that is "" is taken from the
// endpoint, where it names one: a1b2c3d4e5-ats.iot.REGION.amazonaws.com.
func Prefix(cfg *config.Config, region, account string) (string, error) {
	if region == "" {
		if region = regionOf(cfg.Broker.Endpoint); region == "" {
			return "", fmt.Errorf("no region: broker.endpoint %q names none; give it with --region", cfg.Broker.Endpoint)
		}
	}
	switch {
	case !regions().MatchString(region):
		return "", fmt.Errorf("--region %q: want a region such as eu-west-1", region)
	case account == "":
		return "", errors.New("no account: give its twelve digits with --account; `aws sts get-caller-identity` prints them")
	case !accounts().MatchString(account):
		return "", fmt.Errorf("--account %q: want twelve digits", account)
	}
	return fmt.Sprintf("arn:%s:iot:%s:%s:", partitionOf(region), region, account), nil
}

func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// CheckPrefix completes and checks the beginning of an ARN that somebody has given.
func CheckPrefix(prefix string) (string, error) {
	if !strings.HasSuffix(prefix, ":") {
		prefix += ":"
	}
	if !prefixes().MatchString(prefix) {
		return "", fmt.Errorf("--arn-prefix %q: want arn:aws:iot:REGION:ACCOUNT", prefix)
	}
	return prefix, nil
}

// Region returns the AWS region that broker.endpoint names; "" if it names none.
func Region(cfg *config.Config) string { return regionOf(cfg.Broker.Endpoint) }

func regionOf(address string) string {
	e, err := endpoint.Parse(address)
	if err != nil {
		return ""
	}
	parts := strings.Split(e.Host, ".")
	if i := slices.Index(parts, "amazonaws"); i >= 2 && parts[i-2] == "iot" {
		return parts[i-1]
	}
	return ""
}

// Generate makes the policy that allows what the configuration needs and nothing
// else, as a JSON document. Where one is larger than AWS IoT takes there are
// several, to be attached together.
func Generate(cfg *config.Config, o Options) ([][]byte, error) {
	named := cfg
	if o.ThingVariables {
		if cfg.Broker.ClientID != cfg.Thing {
			return nil, fmt.Errorf("broker.client_id %q is not the thing's name %q: AWS IoT Core fills in thing variables only where the two are the same", cfg.Broker.ClientID, cfg.Thing)
		}
		copied := *cfg
		copied.Thing, copied.Broker.ClientID = mark, mark
		named = &copied
	}
	all := append(Of(named), Renewal(cfg)...)
	if o.ThingVariables && cfg.Broker.Provisioning.Enabled() {
		// The client id of a renewal is no thing's name, so no variable has a value there.
		all = append(Of(named), Claim(cfg)...)
	}
	grants := grantsOf(all, attributes(cfg), o.Prefix)
	if o.Sender {
		if o.ThingVariables {
			return nil, errors.New("what fieldpost send --via mqtt connects as is no thing's name, so that AWS IoT Core fills in no thing variables for it: generate its policy without them")
		}
		grants = grantsOf(append(all, Sender(named)...), attributes(cfg), o.Prefix)
	}
	var out [][]byte
	var rest []grant
	for _, g := range grants {
		if next := append(slices.Clone(rest), g); awsiot.Size(document(next)) <= awsiot.PolicyMax {
			rest = next
			continue
		}
		out, rest = append(out, document(rest)), []grant{g}
	}
	if out = append(out, document(rest)); len(out) > most {
		return nil, fmt.Errorf("this needs %d policies of %d characters, and AWS IoT attaches %d to a certificate; use fewer topics, without {sensor}", len(out), awsiot.PolicyMax, most)
	}
	return out, nil
}

// grant is one resource and what is allowed on it.
type grant struct {
	actions   []string
	resource  string
	condition map[string]map[string][]string
}

// key is what grants of one statement have in common.
func (g grant) key() string { return fmt.Sprint(g.actions, g.condition) }

// grantsOf joins the actions on a resource, in the order connect, both ways, out,
// in, subscribe.
func grantsOf(all []Need, attributes []string, prefix string) (out []grant) {
	for _, n := range all {
		name, sender := strings.CutSuffix(n.Resource, senderID)
		if !n.raw {
			name = awsiot.Escape(name)
		}
		resource := prefix + strings.ReplaceAll(name, mark, thingName)
		if sender {
			resource += "-send-*"
		}
		if n.Channels {
			resource = strings.TrimSuffix(resource, channelID) + "_*"
		}
		i := slices.IndexFunc(out, func(g grant) bool { return g.resource == resource })
		if i < 0 {
			i = len(out)
			out = append(out, grant{resource: resource})
		}
		g := &out[i]
		if !slices.Contains(g.actions, n.Action) {
			g.actions = append(g.actions, n.Action)
			slices.SortFunc(g.actions, func(a, b string) int { return rank(a) - rank(b) })
		}
		if n.Action != awsiot.ActionConnect {
			continue
		}
		asks := append([]string{}, attributes...)
		if sender || n.clean {
			asks = []string{} // its session is clean, and it leaves no will
		}
		if len(asks) < 2 {
			// What is not asked for need not be allowed. With both there is nothing to
			// forbid, and the policy stays as the tutorial has it.
			g.condition = map[string]map[string][]string{"ForAllValues:StringEquals": {"iot:ConnectAttributes": asks}}
		}
	}
	slices.SortStableFunc(out, func(a, b grant) int {
		return 10*(rank(a.actions[0])-rank(b.actions[0])) + len(b.actions) - len(a.actions)
	})
	return out
}

func rank(action string) int {
	return slices.Index([]string{awsiot.ActionConnect, awsiot.ActionPublish, awsiot.ActionRetainPublish, awsiot.ActionReceive, awsiot.ActionSubscribe}, action)
}

// oneOrMore is a list that is written as a string where it has one item.
type oneOrMore []string

// MarshalJSON writes one item as a string.
func (o oneOrMore) MarshalJSON() ([]byte, error) {
	if len(o) == 1 {
		return encode(o[0], ""), nil
	}
	return encode([]string(o), ""), nil
}

// document writes grants as a policy, those alike in one statement.
func document(grants []grant) []byte {
	type statement struct {
		Effect    string
		Action    oneOrMore
		Resource  oneOrMore
		Condition map[string]map[string][]string `json:",omitempty"`
	}
	doc := struct {
		Version   string
		Statement []statement
	}{Version: "2012-10-17"}
	last := ""
	for _, g := range grants {
		if key := g.key(); key != last || len(doc.Statement) == 0 {
			doc.Statement = append(doc.Statement, statement{Effect: "Allow", Action: g.actions, Condition: g.condition})
			last = key
		}
		s := &doc.Statement[len(doc.Statement)-1]
		s.Resource = append(s.Resource, g.resource)
	}
	return append(encode(doc, "  "), '\n')
}

// encode writes JSON without the escapes that HTML needs.
func encode(v any, indent string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		panic(err) // strings always encode
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
