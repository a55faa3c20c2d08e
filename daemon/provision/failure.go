package provision

import (
	"errors"
	"fmt"
	"strings"

	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// Failure says why provisioning or a renewal did not succeed.
type Failure struct {
	Code health.Code // of the fault; "" is that of the attempt
	What string      // what is wrong, in lower case
	Hint string      // what to do; "" is what the fault says
	Err  error       // the reason, or nil

	refused bool // by the broker: another certificate may be accepted
}

// Error returns what is wrong.
func (f *Failure) Error() string { return f.What }

// Unwrap returns the reason.
func (f *Failure) Unwrap() error { return f.Err }

func diskFailure(verb string, err error) error {
	return &Failure{What: fmt.Sprintf("%s the certificate's files: %v", verb, err), Err: err,
		Hint: "Free some space, or check the disk. Nothing is sent before it is on disk."}
}

// Rejection is an answer on a topic that ends in /rejected.
type Rejection struct {
	StatusCode int    `json:"statusCode"`
	Code       string `json:"errorCode"`
	Message    string `json:"errorMessage"`
}

// Error returns the answer in one line.
func (r *Rejection) Error() string {
	return fmt.Sprintf("rejected with %d %s: %.300s", r.StatusCode, r.Code, r.Message)
}

// The errorCode of a rejection that is acted upon.
const invalidToken = "InvalidCertificateOwnershipToken"

const (
	createTopic     = "$aws/certificates/create-from-csr/json"
	templatesPrefix = "$aws/provisioning-templates/"
)

// RegisterTopic returns the topic on which things are registered by a template.
func RegisterTopic(template string) string { return templatesPrefix + template + "/provision/json" }

// RequestTopics returns the topics of all requests by a template. The answers come on these
// followed by /accepted and /rejected.
func RequestTopics(template string) []string { return []string{createTopic, RegisterTopic(template)} }

// claimHint is what to do if the policy of the claim certificate denies something.
const claimHint = "`fieldpost policy generate --claim` prints the policy that the claim certificate needs."

// DeniedHint says what to do if a policy denies a topic of the API. claim says that it is the
// claim certificate's.
func DeniedHint(topic string, claim bool) string {
	switch {
	case claim && strings.HasPrefix(topic, createTopic):
		return "The policy of the claim certificate must allow $aws/certificates/create-from-csr/*. The one that AWS's developer guide prints allows only $aws/certificates/create/*, for keys that AWS makes. " + claimHint
	case claim:
		return "The policy of the claim certificate must allow this topic. " + claimHint
	}
	return "The policy of this board's certificate must allow a renewal: iot:Connect with the client id of `broker.provisioning`, and Publish, Subscribe and Receive on the topics of provisioning. `fieldpost policy generate` includes them."
}

// whose names the certificate of a request.
func whose(claim bool) string {
	if claim {
		return "the claim certificate"
	}
	return "this board's certificate"
}

// requestFailure explains why a request got no answer, or a bad one.
func requestFailure(step string, claim bool, err error) error {
	f := &Failure{What: fmt.Sprintf("%s with %s: %v", step, whose(claim), err), Err: err}
	var rejected *Rejection
	var denied *DeniedError
	var why *uplink.Explained
	switch {
	case errors.As(err, &rejected):
		f.Hint = rejectionHint(rejected)
	case errors.As(err, &denied):
		f.refused, f.Hint = true, DeniedHint(denied.Topic, claim)
	case errors.As(err, &why):
		f.Hint = why.Hint
		switch health.Code(why.Code) {
		case health.ConnectRefused, health.CertificateRejected:
			f.refused = true
			if claim {
				f.Hint += " " + claimHint
			}
		}
	}
	return f
}

// rejectionHint says what to do about a rejection.
func rejectionHint(r *Rejection) string {
	switch {
	case r.StatusCode == 429 || strings.Contains(r.Code, "Throttl") || strings.Contains(r.Code, "TooMany"):
		return "Nothing needs to be done: fieldpost tries again later."
	case r.Code == "InvalidCSR" || r.Code == "InvalidPayload":
		return "Please report this as a bug in fieldpost."
	case r.StatusCode >= 500:
		return "AWS IoT had a problem of its own. fieldpost tries again later."
	case r.Code == "AccessDenied" || r.StatusCode == 403:
		return "The template's pre-provisioning hook refused this board, or the role of the template may not create what the template asks for."
	}
	return "Compare `broker.provisioning` with the template in AWS IoT: its name, that it is enabled, and its parameters."
}
