package awsiot

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one operator with one key: {"StringEquals": {"iot:ClientId": [...]}}.
type condition struct {
	operator string // as written
	test     test
	all, any bool // ForAllValues, ForAnyValue
	ifExists bool
	key      string
	values   []operand
	line     int
	column   int
}

// test is what an operator does with one value of the key and one of the
// policy's. not: it holds where the value is like none of them, and where the key
// is absent.
type test struct {
	name  string
	kind  string // "string", "arn", "bool", "ip", "number", "date", "null"
	not   bool
	wild  bool                 // * and ? in the policy's value are wildcards
	fold  bool                 // upper and lower case are alike
	order func(order int) bool // of numbers and dates, by the order of the key's value and the policy's
}

// operand is one of the policy's values.
type operand struct {
	text    string
	pattern pattern      // of strings
	arn     arn          // of ARNs
	prefix  netip.Prefix // of addresses
	number  float64      // of numbers
	date    time.Time    // of dates
}

func before(o int) bool    { return o < 0 }
func notAfter(o int) bool  { return o <= 0 }
func after(o int) bool     { return o > 0 }
func notBefore(o int) bool { return o >= 0 }
func sameOrder(o int) bool { return o == 0 }
func comparison(kind string) (all []test) {
	return []test{
		{name: "Equals", kind: kind, order: sameOrder},
		{name: "NotEquals", kind: kind, order: sameOrder, not: true},
		{name: "LessThan", kind: kind, order: before},
		{name: "LessThanEquals", kind: kind, order: notAfter},
		{name: "GreaterThan", kind: kind, order: after},
		{name: "GreaterThanEquals", kind: kind, order: notBefore},
	}
}

// tests are the condition operators of IAM that are evaluated here.
var tests = func() []test {
	all := []test{
		{name: "StringEquals", kind: "string"},
		{name: "StringNotEquals", kind: "string", not: true},
		{name: "StringEqualsIgnoreCase", kind: "string", fold: true},
		{name: "StringNotEqualsIgnoreCase", kind: "string", fold: true, not: true},
		{name: "StringLike", kind: "string", wild: true},
		{name: "StringNotLike", kind: "string", wild: true, not: true},
		{name: "ArnEquals", kind: "arn", wild: true},
		{name: "ArnLike", kind: "arn", wild: true},
		{name: "ArnNotEquals", kind: "arn", wild: true, not: true},
		{name: "ArnNotLike", kind: "arn", wild: true, not: true},
		{name: "Bool", kind: "bool"},
		{name: "IpAddress", kind: "ip"},
		{name: "NotIpAddress", kind: "ip", not: true},
		{name: "Null", kind: "null"},
	}
	for prefix, kind := range map[string]string{"Numeric": "number", "Date": "date"} {
		for _, t := range comparison(kind) {
			t.name = prefix + t.name
			all = append(all, t)
		}
	}
	return all
}()

// parseOperator takes "ForAllValues:StringEqualsIfExists" apart.
func parseOperator(s string) (condition, error) {
	c := condition{operator: s}
	name := s
	if set, rest, ok := strings.Cut(s, ":"); ok {
		c.all, c.any, name = set == "ForAllValues", set == "ForAnyValue", rest
		if !c.all && !c.any {
			return c, fmt.Errorf("want ForAllValues: or ForAnyValue: before the operator (got %q)", shorten(s))
		}
	}
	find := func(name string) bool {
		i := slices.IndexFunc(tests, func(t test) bool { return t.name == name })
		if i >= 0 {
			c.test = tests[i]
		}
		return i >= 0
	}
	if find(name) {
		return c, nil
	}
	if bare, ok := strings.CutSuffix(name, "IfExists"); ok && find(bare) && c.test.kind != "null" {
		c.ifExists = true
		return c, nil
	}
	best, least := "", 4
	for _, t := range tests {
		if d := distance(strings.ToLower(t.name), strings.ToLower(name)); d < least {
			best, least = t.name, d
		}
	}
	if best != "" {
		return c, fmt.Errorf("unknown condition operator, did you mean %q", best)
	}
	return c, fmt.Errorf("unknown condition operator; there are %s", strings.Join(operatorNames(), ", "))
}

func operatorNames() (all []string) {
	for _, t := range tests {
		all = append(all, t.name)
	}
	slices.Sort(all)
	return all
}

// parseOperand reads one of the policy's values for the operator.
func (t test) parseOperand(s string) (o operand, err error) {
	o.text = s
	switch t.kind {
	case "string":
		o.pattern, err = compile(s, t.wild)
	case "arn":
		o.arn, err = parseARN(s)
	case "bool", "null":
		if o.text = strings.ToLower(s); o.text != "true" && o.text != "false" {
			err = fmt.Errorf("want true or false (got %q)", shorten(s))
		}
	case "ip":
		if o.prefix, err = netip.ParsePrefix(s); err == nil {
			o.prefix = o.prefix.Masked()
			break
		}
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err != nil {
			err = fmt.Errorf("want an address or a range such as 192.0.2.0/24 (got %q)", shorten(s))
			break
		}
		o.prefix = netip.PrefixFrom(a.WithZone(""), a.BitLen())
	case "number":
		if o.number, err = strconv.ParseFloat(s, 64); err != nil || o.number != o.number {
			err = fmt.Errorf("want a number (got %q)", shorten(s))
		}
	case "date":
		if o.date, err = parseDate(s); err != nil {
			err = fmt.Errorf("want a time such as 2026-11-28T18:00:00Z, or seconds since 1970 (got %q)", shorten(s))
		}
	}
	return o, err
}

// parseDate reads a time of ISO 8601 as W3C restricts it, or seconds.
func parseDate(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && len(s) > 4 {
		return time.Unix(n, 0), nil
	}
	var err error
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"} {
		var t time.Time
		if t, err = time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}

// holds evaluates the condition. IAM's rules: a key that is absent satisfies
// negated operators, ...IfExists and ForAllValues, and nothing else.
func (c *condition) holds(q *question) bool {
	v := q.value(c.key)
	if v.inferred != "" {
		q.note(v.inferred)
	}
	if c.test.kind == "null" {
		return slices.ContainsFunc(c.values, func(o operand) bool { return (o.text == "true") == (len(v.all) == 0) })
	}
	if len(v.all) == 0 {
		switch {
		case c.ifExists, c.all:
			if known, _ := canonical(c.key); c.all && known != keyConnect {
				q.note(fmt.Sprintf("that ForAllValues holds where %s is absent is IAM's rule", c.key))
			}
			return true
		case c.any:
			return false
		}
		return c.test.not
	}
	if known, _ := canonical(c.key); known == keyWillTopic && c.test.kind == "string" {
		v.all = q.wholeARN(v.all)
		q.note(keyWillTopic + " is compared as an ARN in the guide, by ArnEquals; as text it is taken to be the whole ARN")
	}
	like := func(s string) bool { return c.like(q, s) }
	if c.all {
		return !slices.ContainsFunc(v.all, func(s string) bool { return !like(s) })
	}
	if v.several && !c.any {
		q.note(fmt.Sprintf("%s without ForAllValues or ForAnyValue on the list %s is taken as ForAnyValue; IAM demands one", c.operator, c.key))
	}
	return slices.ContainsFunc(v.all, like)
}

// wholeARN puts the region and the account that were asked for before names; where
// only a name was asked for there are none, and then nothing is like it but *.
func (q *question) wholeARN(names []string) (all []string) {
	for _, name := range names {
		head := strings.Join(q.wanted.head[:], ":")
		if !q.wanted.full {
			head = "aws:iot::"
		}
		all = append(all, "arn:"+head+":"+name)
	}
	return all
}

// like reports whether the operator holds for one value of the key.
func (c *condition) like(q *question, s string) bool {
	found := slices.ContainsFunc(c.values, func(o operand) bool { return c.test.equal(q, s, o) })
	return found != c.test.not
}

// equal compares a value of the key with one of the policy's.
func (t test) equal(q *question, s string, o operand) bool {
	switch t.kind {
	case "string":
		p, _ := o.pattern.fill(q)
		if t.fold {
			s = strings.ToLower(s)
		}
		if t.fold {
			p = p.lower()
		}
		return p.matches(s)
	case "arn":
		wanted := cut(s)
		if !wanted.full && q.wanted.full {
			wanted.head, wanted.full = q.wanted.head, true
		}
		ok, _ := o.arn.covers(q, wanted)
		return ok
	case "bool":
		return strings.EqualFold(s, o.text)
	case "ip":
		a, err := netip.ParseAddr(s)
		return err == nil && o.prefix.Contains(a)
	case "number":
		n, err := strconv.ParseFloat(s, 64)
		return err == nil && t.order(compare(n, o.number))
	case "date":
		d, err := parseDate(s)
		return err == nil && t.order(d.Compare(o.date))
	}
	return false
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// lower gives a pattern in lower case, once its values are filled in.
func (p pattern) lower() pattern {
	p = slices.Clone(p)
	for i := range p {
		p[i].text = strings.ToLower(p[i].text)
	}
	return p
}

// why says in words why a condition does not hold.
func (c *condition) why(q *question) string {
	v := q.value(c.key)
	got := "it is absent"
	switch {
	case len(v.all) == 1:
		got = fmt.Sprintf("got %q", shorten(v.all[0]))
	case len(v.all) > 1:
		got = fmt.Sprintf("got %q", v.all)
	case v.why != "":
		got = "it is absent: " + v.why
	}
	return fmt.Sprintf("the condition %s on %s does not hold: want %s, %s", c.operator, c.key, c.wanted(), got)
}

func (c *condition) wanted() string {
	var all []string
	for _, o := range c.values {
		all = append(all, strconv.Quote(shorten(o.text)))
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, " or ")
}
