// Package awsiot knows what AWS IoT Core allows: the language of its policies
// and the limits of its message broker.
//
// AWS IoT Core answers a forbidden operation by closing the connection, with no
// reason. So whoever wants to explain a refusal has to do the sum again: take
// the policy, the action and the resource, and see which statement spoke.
// [Parse] reads a policy document, [Policy.Allows] decides one question.
//
// The rules are those of the AWS IoT Core Developer Guide, "AWS IoT Core
// policies", "AWS IoT Core policy variables" and "Publish/Subscribe policy
// examples":
//
//   - What no statement allows is denied; an explicit Deny wins over any Allow.
//   - In a resource, * stands for any characters, slashes included, and ? for
//     exactly one. MQTT's own wildcards + and # stand for themselves.
//   - Resources are case-sensitive. Names of actions are not.
//   - ${iot:ClientId} and ${iot:Connection.Thing.ThingName} stand for the
//     connection's own values, taken literally: a client id with a * in it does
//     not become a wildcard.
//
// A part of the language that this package does not evaluate, a Condition
// first of all, is an error of [Parse] and never passed over: a policy half
// understood would be answered wrongly in one direction or the other.
package awsiot
