// Package awsiot knows what AWS IoT Core allows: the language of its policies
// and the limits of its message broker. It imports nothing of fieldpost and may
// be used by other programs as it is.
//
// AWS IoT Core answers a forbidden operation by closing the connection, with no
// reason, to a client that speaks MQTT 3.1.1. So whoever wants to explain a
// refusal has to do the sum again: take the policies, the action and the
// resource, and see which statement decided.
//
//   - [Parse] reads a policy document. Errors have a line, a column and a reason.
//   - [Merge] joins the policies that are attached to one certificate.
//   - [Policy.Decide] answers one [Request]. The [Decision] names the statement that
//     allowed or denied it or, where none matched, those that came nearest and why
//     they did not match.
//   - [Policy.Lint] names what a policy does and nobody would expect.
//
// The rules are those of the AWS IoT Core Developer Guide, "AWS IoT Core
// policies" with its pages on actions, action resources, policy variables and
// examples:
//
//   - What no statement allows is denied; an explicit Deny wins over any Allow; all
//     policies count together.
//   - In a resource, * stands for any characters, slashes included, and ? for
//     exactly one. MQTT's own wildcards + and # stand for themselves.
//   - Resources are case-sensitive.
//   - A variable, such as ${iot:ClientId}, ${iot:Connection.Thing.ThingName} or
//     ${iot:Certificate.Subject.CommonName.1}, stands for the connection's own
//     value, taken literally: a client id with a * in it does not become a wildcard.
//     One that has no value stays as text, and the resource does not match.
//   - A thing's variables have values only where the client id is the thing's name,
//     or the certificate is attached to the thing exclusively.
//   - Of a certificate's field five values are kept; one that holds a wildcard or is
//     longer than 1024 characters is not substituted.
//
// Where these pages refer to IAM or say nothing, IAM's rules are applied ("IAM JSON
// policy elements: Condition operators" and "Multivalued context keys"): names of
// actions and keys are compared without regard to case; ForAllValues holds where its
// key is absent; the escapes are ${*}, ${?} and ${$}. A decision that rests on such a
// rule says so in [Decision.Inferred]. Nothing here has been tried on live AWS;
// cases_test.go lists what is documented, case by case.
//
// Not evaluated are the condition operators that no page on IoT policies uses
// (BinaryEquals): a policy that has one is refused by [Parse] and never half
// understood.
package awsiot
