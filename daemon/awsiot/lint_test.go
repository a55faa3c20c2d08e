package awsiot

import (
	"slices"
	"strings"
	"testing"
)

// codes are the findings' without those about the example's account.
func codes(p *Policy) (all []string) {
	for _, f := range p.Lint() {
		if f.Code != "example-account" {
			all = append(all, f.Code)
		}
	}
	slices.Sort(all)
	return all
}

// Each trap, and beside it what is well.
func TestLint(t *testing.T) {
	const well = "; A Connect c:thing-1; A Receive t:ok"
	for _, tc := range []struct{ policy, want string }{
		{"A Connect c:test-*,c:thing-*; A Publish,Receive t:test/topic; A Subscribe f:test/topic", ""},
		{"A Connect *", "connect-any"},
		{"A Connect c:*", "connect-any"},
		{"A Connect c:CID", "connect-any"},
		{"A Connect c:TN", "not-attached"},
		{"A Connect c:TN if Bool:THING.IsAttached=[true]", ""},
		{"A Connect * if Bool:THING.IsAttached=[true]", ""},
		{"A * *", "allows-everything connect-any"},
		{"A Subscribe t:a" + well, "topic-for-topicfilter"},
		{"D Subscribe t:a" + well, "topic-for-topicfilter"},
		{"A Subscribe,Receive f:a,t:a" + well, ""},
		{"A Publish f:a" + well, "wrong-kind"},
		{"A Publish t:a/#" + well, "wildcard-in-topic"},
		{"A Receive t:a/+/b" + well, "wildcard-in-topic"},
		{"A Subscribe f:a/#" + well, ""},
		{"A Subscribe f:a", "no-connect no-receive"},
		{"A Connect c:a; A Subscribe f:a", "no-receive"},
		{"A Connect c:a; A RetainPublish t:a", "no-publish"},
		{"A Connect c:a; A Publish,RetainPublish t:a", ""},
		{"A Subscribe f:a/*; D Subscribe f:a/restricted/*; A Receive *; A Connect c:a", "deny-slips"},
		{"A Subscribe f:a/*; D Subscribe f:a/restricted; A Receive *; A Connect c:a", "deny-slips"},
		{"A Subscribe f:a/*; D Subscribe f:a/restricted/*; A Receive !t:a/restricted/*; A Connect c:a", "allow-not-resource"},
		{"A Subscribe f:a/*; D Subscribe,Receive f:a/restricted/*,t:a/restricted/*; A Receive *; A Connect c:a", ""},
		{"A Subscribe f:a/x; D Subscribe f:a/restricted/*; A Receive *; A Connect c:a", ""},
		{"A Connect *; A Subscribe f:my/CID/topic; A Receive *", "client-id-wildcard connect-any"},
		{"A Connect c:clientid1; A Subscribe f:my/CID/topic; A Receive *", ""},
		{"A Connect c:?; A Subscribe f:my/CID/topic; A Receive *", "client-id-wildcard"},
		{"A Publish t:x if FAV:CERT.Organization.List=[X]" + well, "forallvalues-absent"},
		{"A Publish t:x if FANY:CERT.Organization.List=[X]" + well, ""},
		{"D Publish t:x if FAV:CERT.Organization.List=[X]" + well, "deny-forallvalues-absent"},
		{"D Connect * if FANY:CA=[PersistentConnect]" + well, "no-persistent-session"},
		{"A Connect c:x if StringEquals:CA=[PersistentConnect]", "list-needs-set"},
		{"A Connect c:x if FAV:CA=[LastWill]", "no-persistent-session"},
		{"A Connect c:x if FAV:CA=[PersistentConnect]", "no-will"},
		{"A Connect c:x if FAV:CA=[PersistentConnect|LastWill]", ""},
		{"A Publish t:${iot:Thing.ThingName}" + well, "unknown-variable"},
		{"A Publish t:${iot:Certificate.Subject.CommonName.List}" + well, "list-variable"},
		{"A Publish t:x if StringEquals:iot:ClientId=[${iot:Nothing}]" + well, "unknown-variable"},
		{"A Publish t:x if StringEquals:iot:Nothing=[x]" + well, "unknown-key"},
		{"A Publish t:$(*)" + well, "round-brackets"},
		{"A Pubish t:x" + well, "unknown-action"},
		{"A CreateThing t:x" + well, "unknown-action"},
		{"A Publish* t:x" + well, ""},
		{"A UpdateJobExecution " + here + "thing/x" + well, "http-only"},
		{"A ListRetainedMessages t:foo" + well, "list-needs-star"},
		{"A ListRetainedMessages *" + well, ""},
		{"A Publish !t:x" + well, "allow-not-resource"},
		{"A Subscribe f:$aws/things/*" + well, "shadows-of-all"},
		{"A Receive t:$aws/things/*" + well, ""},
		{"A Subscribe f:$aws/things/TN/*" + well, ""},
		{"A Publish t:$aws/certificates/create/*" + well, "claim-without-csr"},
		{"A Publish t:$aws/certificates/create/*,t:$aws/certificates/create-from-csr/*" + well, ""},
	} {
		if got := strings.Join(codes(document(t, tc.policy)), " "); got != tc.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.policy, got, tc.want)
		}
	}
	p := mustParse(t, `[{"Sid":"a","Effect":"Allow","NotAction":"iot:Receive","Resource":"arn:aws:iot:*:*:client/x"},{"Sid":"a","Effect":"Deny","NotAction":"*","Resource":"*"}]`)
	if got := strings.Join(codes(p), " "); got != "allow-not-action no-receive sid-twice" {
		t.Error(got)
	}
}

// What is said names the way around, and what would help.
func TestLintSays(t *testing.T) {
	f := document(t, "A Subscribe f:a/*; D Subscribe f:a/restricted/*; A Receive *; A Connect c:a").Lint()
	if len(f) == 0 || !slices.ContainsFunc(f, func(f Finding) bool {
		return strings.Contains(f.String(), "the subscription a/restricted/# is allowed") || strings.Contains(f.String(), "the subscription a/# is allowed")
	}) {
		t.Errorf("got %v", f)
	}
	f = document(t, "A Connect c:a; A Publish t:a").Lint()
	if len(f) != 1 || f[0].Code != "example-account" || f[0].Severity != Note || f[0].Statement.Number != 0 {
		t.Errorf("got %v", f)
	}
	if got := (Finding{Code: "x", Severity: Trap, Text: "it is so"}).String(); got != "trap: the policy: it is so (x)" {
		t.Error(got)
	}
}
