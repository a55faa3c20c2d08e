package awsiot

import (
	"slices"
	"strings"
)

// Grant is what one statement allows a connection: actions on one resource.
type Grant struct {
	Statement Statement
	Actions   []string // by name: "iot:Publish"; in the order of the guide
	// Resource is the last part of the ARN with the connection's values filled in:
	// "topic/test/*". Of * alone it is what the actions are asked for: "topic/*".
	Resource string
	// Exact: it is one resource, without wildcards.
	Exact bool
	// Except: it is every resource but this one (NotResource).
	Except bool
	// Sample is one resource of it that hardly anybody needs, to ask [Policy.Decide]
	// whether a Deny takes it away; "" where there is none.
	Sample string
}

// Grants lists what the policies' Allow statements name for a connection, without
// what a variable leaves out that has no value. A Deny is not taken off, and a
// condition is taken to hold.
func (p *Policy) Grants(by *Connection) (all []Grant) {
	for _, s := range p.statements {
		if !s.ref.Allow {
			continue
		}
		kinds := map[string][]string{} // the actions by the kind of resource they are asked for
		var order []string
		for _, a := range actions {
			if !s.does(&question{action: strings.ToLower(a.name)}) {
				continue
			}
			if kinds[a.kind] == nil {
				order = append(order, a.kind)
			}
			kinds[a.kind] = append(kinds[a.kind], a.name)
		}
		for _, r := range s.resources {
			for _, kind := range order {
				if g, ok := r.grant(by, kind); ok {
					g.Statement, g.Actions, g.Except = s.ref, slices.Clone(kinds[kind]), s.notResource
					all = append(all, g)
				}
			}
		}
	}
	return all
}

// grant gives the resources of a kind that a pattern covers.
func (r *arn) grant(by *Connection, kind string) (g Grant, ok bool) {
	if by == nil {
		by = nobody
	}
	p, missing := r.rest.fill(&question{by: by})
	if missing != "" || kind != "*" && !r.mayBe(kind) || kind == "*" && r.text != "*" {
		return g, false
	}
	var text, sample strings.Builder
	for _, t := range p {
		switch t.kind {
		case anyN:
			text.WriteString("*")
			sample.WriteString("fieldpost-sample")
		case any1:
			text.WriteString("?")
			sample.WriteString("x")
		default:
			text.WriteString(escape(t.text))
			sample.WriteString(t.text)
		}
	}
	g = Grant{Resource: text.String(), Exact: !p.wild(), Sample: sample.String()}
	switch {
	case kind == "*":
		g.Exact = true
	case g.Resource == "*":
		g.Resource, g.Sample = kind+"/*", kind+"/"+g.Sample
	case !strings.HasPrefix(g.Sample, kind+"/"):
		g.Sample = ""
	case g.Exact:
		g.Resource = g.Sample
	}
	return g, true
}

// Escape writes a name so that a resource of a policy takes it as it is: the
// characters * and ?, and a $ before a brace, get IAM's escapes.
func Escape(name string) string { return escape(name) }
