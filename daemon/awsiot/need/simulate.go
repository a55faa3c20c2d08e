package need

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
	"fieldpost/daemon/visible"
)

// Report says what policies make of a configuration. Its JSON is what
// fieldpost policy simulate --json prints; keys may be added.
type Report struct {
	ClientID string   `json:"client_id"`
	Assumed  []string `json:"assumed"` // what of the registry is taken for granted
	Needs    []Answer `json:"needs"`
	Denied   int      `json:"denied"` // how many of Needs are not allowed
	Beyond   []Excess `json:"beyond"` // what is allowed and not needed
}

// Answer is a need and what the policies say to it.
type Answer struct {
	Action    string   `json:"action"`
	Resource  string   `json:"resource"`
	For       string   `json:"for"`
	Decision  string   `json:"decision"` // allowed, explicit_deny, implicit_deny
	Statement string   `json:"statement,omitempty"`
	Why       string   `json:"why"`                // in words
	Near      []string `json:"near,omitempty"`     // what would have allowed it, and why it does not
	Inferred  []string `json:"inferred,omitempty"` // what of it is not documented for AWS IoT
}

// Allowed reports whether the policies allow it.
func (a Answer) Allowed() bool { return a.Decision == allowed }

// The decisions, by the names of AWS's TestAuthorization.
const (
	allowed      = "allowed"
	explicitDeny = "explicit_deny"
	implicitDeny = "implicit_deny"
)

// Excess is what a statement allows and the configuration does not need.
type Excess struct {
	Statement string   `json:"statement"`
	Actions   []string `json:"actions"`
	Resource  string   `json:"resource"`
}

// Simulate asks the policies, which count together, for all that a daemon with the
// configuration needs, as the connection by; see [Connection]. prefix begins the
// ARNs that are asked for; with "" region and account are not compared.
func Simulate(cfg *config.Config, p *awsiot.Policy, by *awsiot.Connection, prefix string, sender bool) Report {
	r := Report{ClientID: by.ClientID, Needs: []Answer{}, Beyond: []Excess{}, Assumed: assumed(by)}
	needed := Of(cfg)
	ask := func(n Need, by *awsiot.Connection) awsiot.Decision {
		d := p.Decide(awsiot.Request{Action: n.Action, Resource: prefix + n.Resource, By: by})
		r.Needs = append(r.Needs, answer(n, d))
		return d
	}
	for _, n := range needed {
		ask(n, by)
	}
	if sender {
		other := &awsiot.Connection{ClientID: senderOf(cfg), Certificate: by.Certificate, SourceIP: by.SourceIP, Domain: by.Domain}
		for _, n := range Sender(cfg) {
			ask(n, other)
			needed = append(needed, n)
		}
	}
	renewing := &awsiot.Connection{ClientID: cfg.Broker.Provisioning.ClientID, Certificate: by.Certificate, SourceIP: by.SourceIP, Domain: by.Domain}
	for _, n := range Renewal(cfg) {
		ask(n, renewing)
		needed = append(needed, n)
	}
	for _, a := range r.Needs {
		if !a.Allowed() {
			r.Denied++
		}
	}
	r.Beyond = beyond(p, by, needed, prefix)
	return r
}

// assumed says what the answers rest on that the configuration cannot tell.
func assumed(by *awsiot.Connection) (all []string) {
	all = []string{}
	if t := by.Thing; t != nil {
		said := fmt.Sprintf("thing %q is registered", t.Name)
		if t.Attached {
			said += " and the certificate attached to it"
		} else {
			said += " and the certificate not attached to it"
		}
		all = append(all, said)
	}
	if by.Certificate == nil {
		all = append(all, "nothing is known of the certificate")
	}
	return all
}

func answer(n Need, d awsiot.Decision) Answer {
	a := Answer{Action: n.Action, Resource: n.Resource, For: n.For, Decision: implicitDeny, Why: d.String(), Inferred: d.Inferred}
	switch {
	case d.Allowed:
		a.Decision = allowed
	case d.Explicit:
		a.Decision = explicitDeny
	}
	if d.Statement != (awsiot.Statement{}) {
		a.Statement = d.Statement.String()
	}
	for _, m := range d.Misses {
		a.Near = append(a.Near, fmt.Sprintf("%s: %s", m.Statement, m.Reason))
	}
	return a
}

// beyond finds what the policies allow and nobody needs.
func beyond(p *awsiot.Policy, by *awsiot.Connection, needed []Need, prefix string) []Excess {
	all := []Excess{}
	add := func(statement, resource, action string) {
		i := slices.IndexFunc(all, func(x Excess) bool { return x.Statement == statement && x.Resource == resource })
		if i < 0 {
			i = len(all)
			all = append(all, Excess{Statement: statement, Resource: resource})
		}
		if x := &all[i]; !slices.Contains(x.Actions, action) {
			x.Actions = append(x.Actions, action)
		}
	}
	for _, g := range p.Grants(by) {
		for _, action := range g.Actions {
			if !unneeded(p, by, g, action, needed, prefix) {
				continue
			}
			resource := g.Resource
			if g.Except {
				resource = "all but " + resource
			}
			add(g.Statement.String(), resource, action)
		}
	}
	// A session and a will are allowed without naming them.
	for _, attribute := range []string{awsiot.PersistentConnect, awsiot.LastWill} {
		if slices.Contains(by.ConnectAttributes, attribute) {
			continue
		}
		more := *by
		more.ConnectAttributes = append(slices.Clone(by.ConnectAttributes), attribute)
		if attribute == awsiot.LastWill {
			more.LastWillTopic = "fieldpost-sample"
		}
		if d := p.Decide(awsiot.Request{Action: awsiot.ActionConnect, Resource: prefix + "client/" + by.ClientID, By: &more}); d.Allowed {
			add(d.Statement.String(), "client/"+by.ClientID+" with "+attribute, awsiot.ActionConnect)
		}
	}
	slices.SortStableFunc(all, func(a, b Excess) int { return cmp.Compare(a.Statement, b.Statement) })
	return all
}

// unneeded reports whether a grant goes beyond what is needed: one resource that
// nobody asks for, or more than one, of which no Deny takes away the sample.
func unneeded(p *awsiot.Policy, by *awsiot.Connection, g awsiot.Grant, action string, needed []Need, prefix string) bool {
	if g.Exact && !g.Except && slices.ContainsFunc(needed, func(n Need) bool { return n.Action == action && n.Resource == g.Resource }) {
		return false
	}
	if name, ok := strings.CutSuffix(g.Resource, "-send-*"); ok && !g.Except && slices.ContainsFunc(needed, func(n Need) bool {
		return n.Action == action && strings.HasSuffix(n.Resource, senderID) && awsiot.Escape(strings.TrimSuffix(n.Resource, senderID)) == name
	}) {
		return false
	}
	if name, ok := strings.CutSuffix(g.Resource, "_*"); ok && !g.Except && slices.ContainsFunc(needed, func(n Need) bool {
		return n.Action == action && n.Channels && awsiot.Escape(strings.TrimSuffix(n.Resource, channelID)) == name
	}) {
		return false
	}
	if g.Except || g.Sample == "" {
		return true
	}
	return p.Decide(awsiot.Request{Action: action, Resource: prefix + g.Sample, By: by}).Allowed || action == "iot:ListRetainedMessages"
}

// Write prints a report for people: each need with its answer, then what is beyond.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	for _, a := range r.Needs {
		word := "allowed"
		if !a.Allowed() {
			word = "DENIED"
		}
		fmt.Fprintf(&b, "%-8s %-14s %s  (%s)\n", word, a.Action, a.Resource, a.For)
		if a.Allowed() {
			fmt.Fprintf(&b, "           by %s\n", a.Statement)
		} else {
			fmt.Fprintf(&b, "           %s\n", a.Why)
		}
		for _, s := range a.Inferred {
			fmt.Fprintf(&b, "           inferred: %s\n", s)
		}
	}
	for _, x := range r.Beyond {
		fmt.Fprintf(&b, "beyond   %s on %s\n           by %s\n", strings.Join(x.Actions, ", "), x.Resource, x.Statement)
	}
	if len(r.Beyond) == 0 {
		fmt.Fprintln(&b, "nothing is allowed beyond what is needed")
	}
	for _, s := range r.Assumed {
		fmt.Fprintf(&b, "assumed: %s\n", s)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, visible.Lines(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}
