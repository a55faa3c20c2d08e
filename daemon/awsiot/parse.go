package awsiot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// version is the only version of the language in which AWS IoT replaces
// variables, and the only one accepted.
const version = "2012-10-17"

// PolicyMax is the largest policy document that AWS IoT takes, in characters
// that are not white space.
const PolicyMax = 2048

// largestDocument is the largest text that is looked at, in bytes.
const largestDocument = 64 << 10

// mostErrors is how many mistakes of a document are told.
const mostErrors = 20

// Error is one mistake in a policy document.
type Error struct {
	Policy string // the document's name; "" where it has none
	Line   int    // from 1
	Column int    // from 1, in characters
	Path   string // "Statement[2].Action[1]", counted from 1; "" for the whole
	Reason string
}

// Error says file, line, column, place and reason.
func (e *Error) Error() string {
	name := e.Policy
	if name == "" {
		name = "policy"
	}
	if e.Path != "" {
		return fmt.Sprintf("%s:%d:%d: %s: %s", name, e.Line, e.Column, e.Path, e.Reason)
	}
	return fmt.Sprintf("%s:%d:%d: %s", name, e.Line, e.Column, e.Reason)
}

// Errors are the mistakes of a policy document, in the order of the text, 20 at
// most. Text that is not JSON is one mistake, the first.
type Errors []*Error

// Error gives the mistakes, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Parse reads a policy document without a name. The error is [Errors].
func Parse(document []byte) (*Policy, error) { return ParseNamed("", document) }

// ParseNamed reads a policy document. The name, of its file or in AWS IoT, stands
// in errors and decisions. The error is [Errors]: what AWS IoT would refuse, and
// besides what it would take and nobody can mean, such as a key that comes twice.
func ParseNamed(name string, document []byte) (*Policy, error) {
	p := &parser{name: name, document: document}
	if len(document) > largestDocument {
		p.fail(0, "", fmt.Sprintf("has %d bytes; a policy has at most %d characters", len(document), PolicyMax))
		return nil, p.errs
	}
	root, at, err := parseJSON(document)
	if err != nil {
		p.fail(at, "", err.Error())
		return nil, p.errs
	}
	policy := p.policy(root)
	if n := Size(document); n > PolicyMax {
		p.fail(0, "", fmt.Sprintf("has %d characters without white space, AWS IoT takes %d; spread it over several policies, up to 10 on a certificate", n, PolicyMax))
	}
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return policy, nil
}

// Size is the length of a document as AWS IoT counts it: characters that are not
// white space.
func Size(document []byte) int {
	n := 0
	for _, r := range string(document) {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// parser is one reading of one document.
type parser struct {
	name     string
	document []byte
	errs     Errors
}

func (p *parser) fail(at int, path, reason string) {
	if len(p.errs) < mostErrors {
		line, column := position(p.document, at)
		p.errs = append(p.errs, &Error{Policy: p.name, Line: line, Column: column, Path: path, Reason: reason})
	}
}

func (p *parser) failWant(n *node, path, want string) {
	p.fail(n.at, path, fmt.Sprintf("want %s (got %s)", want, n.describe()))
}

// members walks over the keys of an object and refuses one that comes twice.
func (p *parser) members(n *node, path string, each func(m member, path string)) {
	if n.kind != '{' {
		p.failWant(n, path, "an object")
		return
	}
	seen := map[string]bool{}
	for _, m := range n.members {
		at := join(path, m.key)
		if seen[m.key] {
			p.fail(m.at, at, "comes twice")
			continue
		}
		seen[m.key] = true
		each(m, at)
	}
}

func join(path, key string) string {
	key = shorten(key)
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		key = strconv.Quote(key) // a terminal would act on it
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func (p *parser) policy(root *node) *Policy {
	out := &Policy{}
	version, statement := false, false
	p.members(root, "", func(m member, path string) {
		switch m.key {
		case "Version":
			version = true
			p.version(m.value)
		case "Id":
			p.text(m.value, path)
		case "Statement":
			statement = true
			out.statements = p.statements(m.value)
		case "policyDocument", "policyName", "policyArn", "policyVersionId":
			p.fail(m.at, path, "this is what `aws iot get-policy` prints around a policy; have it print the policy alone with --query policyDocument --output text")
		default:
			p.unknown(m, path, "a policy", "Version", "Id", "Statement")
		}
	})
	if root.kind != '{' {
		return nil
	}
	if !version {
		p.fail(root.at, "", `has no "Version"; want "Version": "2012-10-17"`)
	}
	if !statement {
		p.fail(root.at, "", `has no "Statement"`)
	}
	return out
}

func (p *parser) version(n *node) {
	switch {
	case n.kind == '"' && n.text == version:
	case n.kind == '"' && n.text == "2008-10-17":
		p.fail(n.at, "Version", `want "2012-10-17" (got "2008-10-17", in which variables are not replaced)`)
	default:
		p.failWant(n, "Version", `"2012-10-17"`)
	}
}

// unknown refuses a key, and says which was probably meant.
func (p *parser) unknown(m member, path, what string, known ...string) {
	reason := what + " has no such element"
	for _, k := range known {
		if distance(strings.ToLower(k), strings.ToLower(m.key)) <= 2 {
			reason += fmt.Sprintf(", did you mean %q", k)
			break
		}
	}
	p.fail(m.at, path, reason)
}

// text reads a string.
func (p *parser) text(n *node, path string) (string, bool) {
	if n.kind != '"' {
		p.failWant(n, path, "a string")
		return "", false
	}
	return n.text, true
}

func (p *parser) statements(n *node) (all []*statement) {
	list := []*node{n}
	if n.kind == '[' {
		list = n.items
	}
	if len(list) == 0 {
		p.fail(n.at, "Statement", "is empty")
	}
	for i, one := range list {
		all = append(all, p.statement(one, i+1, fmt.Sprintf("Statement[%d]", i+1)))
	}
	return all
}

func (p *parser) statement(n *node, number int, path string) *statement {
	s := &statement{}
	line, column := position(p.document, n.at)
	s.ref = Statement{Policy: p.name, Number: number, Line: line, Column: column}
	before := len(p.errs)
	first := map[string]int{}
	p.members(n, path, func(m member, path string) {
		first[m.key] = m.at
		switch m.key {
		case "Sid":
			s.ref.Sid, _ = p.text(m.value, path)
		case "Effect":
			s.effect(p, m.value, path)
		case "Action", "NotAction":
			s.notAction = m.key == "NotAction"
			s.actions = parseList(p, m.value, path, parseAction)
		case "Resource", "NotResource":
			s.notResource = m.key == "NotResource"
			s.resources = parseList(p, m.value, path, parseARN)
		case "Condition":
			s.conditions = p.conditions(m.value, path)
		case "Principal", "NotPrincipal":
			p.fail(m.at, path, "a policy of AWS IoT has none; it applies to what it is attached to")
		default:
			p.unknown(m, path, "a statement", "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition")
		}
	})
	if n.kind != '{' {
		return s
	}
	for _, pair := range [][2]string{{"Action", "NotAction"}, {"Resource", "NotResource"}} {
		_, plain := first[pair[0]]
		not, negated := first[pair[1]]
		switch {
		case plain && negated:
			p.fail(not, join(path, pair[1]), fmt.Sprintf("stands next to %s; a statement has one of the two", pair[0]))
		case !plain && !negated && len(p.errs) == before:
			p.fail(n.at, path, fmt.Sprintf("has no %q and no %q", pair[0], pair[1]))
		}
	}
	if _, ok := first["Effect"]; !ok && len(p.errs) == before {
		p.fail(n.at, path, `has no "Effect"; want "Allow" or "Deny"`)
	}
	return s
}

func (s *statement) effect(p *parser, n *node, path string) {
	switch {
	case n.kind == '"' && n.text == "Allow":
		s.ref.Allow = true
	case n.kind == '"' && n.text == "Deny":
	default:
		p.failWant(n, path, `"Allow" or "Deny"`)
	}
}

// parseList reads a string, or a list of at least one string.
func parseList[T any](p *parser, n *node, path string, one func(string) (T, error)) (out []T) {
	list := []*node{n}
	if n.kind == '[' {
		list = n.items
	}
	if len(list) == 0 {
		p.fail(n.at, path, "the list is empty")
	}
	for i, item := range list {
		at := path
		if n.kind == '[' {
			at = fmt.Sprintf("%s[%d]", path, i+1)
		}
		text, ok := p.text(item, at)
		if !ok {
			continue
		}
		t, err := one(text)
		if err != nil {
			p.fail(item.at, at, err.Error())
		}
		out = append(out, t)
	}
	return out
}

// named is a pattern of actions and how it was written.
type named struct {
	text    string
	pattern pattern // in lower case: names of actions are compared without regard to case
}

// parseAction takes "*", or a service and a name with wildcards, "iot:Publish".
func parseAction(s string) (named, error) {
	service, name, ok := strings.Cut(s, ":")
	switch {
	case strings.Contains(s, "$"):
		return named{}, fmt.Errorf("an action has no variables (got %q)", shorten(s))
	case s != "*" && (!ok || service == "" || name == ""):
		return named{}, fmt.Errorf("want * or service:Name, such as iot:Connect (got %q)", shorten(s))
	}
	p, err := compile(strings.ToLower(s), true)
	return named{s, p}, err
}

// parseARN takes "*", or an ARN with wildcards in any part after the first.
func parseARN(s string) (arn, error) {
	parts := strings.SplitN(s, ":", 6)
	switch {
	case s == "*":
		parts = []string{"arn", "*", "*", "*", "*", "*"}
	case strings.Contains(strings.Join(parts[:min(len(parts), 5)], ":"), "${"):
		// A variable's name has a colon of its own, and none is of use there.
		return arn{}, fmt.Errorf("a variable may stand in the last part of an ARN only (got %q)", shorten(s))
	case len(parts) != 6 || parts[0] != "arn" || parts[5] == "":
		return arn{}, fmt.Errorf("want * or arn:aws:iot:REGION:ACCOUNT:TYPE/NAME (got %q)", shorten(s))
	}
	a := arn{text: s}
	for i, part := range parts[1:] {
		p, err := compile(part, true)
		if err != nil {
			return arn{}, fmt.Errorf("in %q: %w", shorten(s), err)
		}
		if i < len(a.head) {
			a.head[i] = p
		} else {
			a.rest, a.name = p, part // of * alone this is *
		}
	}
	for _, e := range []string{"${*}", "${?}", "${$}"} {
		a.escapes = a.escapes || strings.Contains(s, e)
	}
	return a, nil
}

// conditions reads {OPERATOR: {KEY: VALUE or [VALUE...]}}.
func (p *parser) conditions(n *node, path string) (all []condition) {
	p.members(n, path, func(m member, path string) {
		operator, err := parseOperator(m.key)
		if err != nil {
			p.fail(m.at, path, err.Error())
			return
		}
		p.members(m.value, path, func(m member, path string) {
			c := operator
			c.key = m.key
			c.line, c.column = position(p.document, m.at)
			if c.key == "" {
				p.fail(m.at, path, "the key is empty")
			}
			c.values = p.operands(c.test, m.value, path)
			all = append(all, c)
		})
	})
	return all
}

func (p *parser) operands(t test, n *node, path string) (all []operand) {
	list := []*node{n}
	if n.kind == '[' {
		list = n.items
	}
	for i, item := range list {
		at := path
		if n.kind == '[' {
			at = fmt.Sprintf("%s[%d]", path, i+1)
		}
		o, err := operand{}, errors.New("want a string (got "+item.describe()+")")
		switch item.kind {
		case '"', '0', 't', 'f':
			o, err = t.parseOperand(item.text)
		}
		if err != nil {
			p.fail(item.at, at, err.Error())
		}
		all = append(all, o)
	}
	return all
}
