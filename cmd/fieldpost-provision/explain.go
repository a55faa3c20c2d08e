package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"fieldpost/daemon/visible"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// explained is an error with what to do about it.
type explained struct {
	error
	hint string
}

// Unwrap returns the error itself.
func (e explained) Unwrap() error { return e.error }

func advise(hint, format string, args ...any) error {
	return explained{fmt.Errorf(format, args...), hint}
}

// codeOf returns the type of an error that AWS answered: "ThrottlingException"; "" for others.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// is reports whether AWS answered with this type of error.
func is(err error, codes ...string) bool { return slices.Contains(codes, codeOf(err)) }

const (
	notFound      = "ResourceNotFoundException"
	alreadyExists = "ResourceAlreadyExistsException"
	inUse         = "DeleteConflictException"
)

// refused reports whether AWS answered that it did not do what was asked. After a fault of the
// server, or without an answer, nobody knows.
func refused(err error) bool {
	var answer *smithyhttp.ResponseError
	return codeOf(err) != "" && errors.As(err, &answer) && answer.HTTPStatusCode() >= 400 && answer.HTTPStatusCode() < 500
}

// explain says what an error of AWS means for an action ("iot:CreateThing") and what to do.
func explain(action string, err error) error {
	if err == nil {
		return nil
	}
	said := err.Error()
	var api smithy.APIError
	if errors.As(err, &api) {
		said = visible.Text(api.ErrorMessage())
	}
	switch code := codeOf(err); code {
	case "AccessDeniedException", "AccessDenied", "UnauthorizedException", "UnauthorizedOperation":
		return explained{fmt.Errorf("%s: access denied: %s", action, said),
			"allow " + action + " to these credentials in IAM, or use others with --profile; nothing else was changed by this step"}
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId":
		return explained{fmt.Errorf("%s: AWS does not know these credentials: %s", action, said),
			"check the access key of the profile; `aws sts get-caller-identity` tries it"}
	case "ExpiredToken", "ExpiredTokenException":
		return explained{fmt.Errorf("%s: the credentials have expired: %s", action, said), "log in again: `aws sso login`, or get a new session token"}
	case "SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignatureException", "RequestExpired", "RequestTimeTooSkewed":
		return explained{fmt.Errorf("%s: AWS does not take the signature: %s", action, said),
			"check the secret key, this machine's clock, and that --region is that of --endpoint-url"}
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException":
		return explained{fmt.Errorf("%s: AWS answers that there are too many requests: %s", action, said), "run this again in a minute; it continues where it stopped"}
	case alreadyExists:
		return explained{fmt.Errorf("%s: somebody else has made it at the same moment: %s", action, said), "run this again; it looks at what is there"}
	case "":
		return explainNoAnswer(action, err)
	default:
		if refused(err) {
			return fmt.Errorf("%s: %s: %s", action, code, said)
		}
		return explained{fmt.Errorf("%s: AWS failed with %s: %s", action, code, said), "run this again; it continues where it stopped"}
	}
}

// explainNoAnswer is about an error that AWS did not send.
func explainNoAnswer(action string, err error) error {
	var dns *net.DNSError
	var dial *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return explained{fmt.Errorf("%s: interrupted", action), "run this again; it continues where it stopped"}
	case errors.As(err, &dns):
		return explained{fmt.Errorf("%s: the host %s has no address", action, visible.Text(dns.Name)), "check the name of the region, and this machine's network"}
	case strings.Contains(err.Error(), "failed to refresh cached credentials"), strings.Contains(err.Error(), "get credentials"), strings.Contains(err.Error(), "no EC2 IMDS role found"):
		return noCredentials(err)
	case errors.As(err, &dial) && !dial.Timeout():
		return explained{fmt.Errorf("%s: %w", action, dial), "check this machine's network; then run this again, it continues where it stopped"}
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return explained{fmt.Errorf("%s: no answer within %v", action, requestTimeout), "check this machine's network; then run this again, it continues where it stopped"}
	}
	return explained{fmt.Errorf("%s: no answer: %w", action, err), "run this again; it continues where it stopped"}
}

func noCredentials(err error) error {
	why := err.Error()
	if i := strings.LastIndex(why, ": "); i >= 0 && len(why)-i > 10 {
		why = why[i+2:]
	}
	return explained{fmt.Errorf("no AWS credentials: %s", visible.Text(why)),
		"run `aws configure`, name a profile with --profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}
}
