package awsiot_test

import (
	"fmt"

	"fieldpost/daemon/awsiot"
)

func Example() {
	policy, err := awsiot.ParseNamed("greenhouse.json", []byte(`{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect",
     "Resource": "arn:aws:iot:eu-west-1:123456789012:client/${iot:Connection.Thing.ThingName}"},
    {"Effect": "Allow", "Action": "iot:Publish",
     "Resource": "arn:aws:iot:eu-west-1:123456789012:topic/${iot:Connection.Thing.ThingName}/*"},
    {"Effect": "Allow", "Action": "iot:Subscribe",
     "Resource": "arn:aws:iot:eu-west-1:123456789012:topic/orders"}
  ]
}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	board := &awsiot.Connection{ClientID: "thing-1", Thing: &awsiot.Thing{Name: "thing-1", Attached: true}}
	for _, d := range []awsiot.Decision{
		policy.Connect(board),
		policy.Connect(&awsiot.Connection{ClientID: "laptop"}),
		policy.Publish(board, "thing-1/air", false),
		policy.Publish(board, "thing-1/air", true),
		policy.Subscribe(board, "orders"),
	} {
		fmt.Printf("%s %s: %s\n", d.Action, d.Resource, d)
	}
	// Output:
	// iot:Connect client/thing-1: allowed by statement 1 (greenhouse.json:4)
	// iot:Connect client/laptop: allowed by no statement; nearest is statement 1 (greenhouse.json:4): client/${iot:Connection.Thing.ThingName}: ${iot:Connection.Thing.ThingName} has no value: no thing has the name "laptop", the client id
	// iot:Publish topic/thing-1/air: allowed by statement 2 (greenhouse.json:6)
	// iot:RetainPublish topic/thing-1/air: allowed by no statement; nearest is statement 2 (greenhouse.json:6): it allows iot:Publish and not iot:RetainPublish
	// iot:Subscribe topicfilter/orders: allowed by no statement; nearest is statement 3 (greenhouse.json:8): it names topic/orders; this action is asked for topicfilter/
}

func ExamplePolicy_Lint() {
	policy, err := awsiot.Parse([]byte(`{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["iot:Connect", "iot:Subscribe", "iot:Receive"],
   "Resource": ["arn:aws:iot:*:*:client/thing-1", "arn:aws:iot:*:*:topicfilter/a/*", "arn:aws:iot:*:*:topic/a/*"]},
  {"Effect": "Deny", "Action": "iot:Subscribe", "Resource": "arn:aws:iot:*:*:topicfilter/a/secret"}
]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range policy.Lint() {
		fmt.Printf("%s\n  %s\n", f, f.Advice)
	}
	// Output:
	// trap: statement 2 (line 4): the subscription a/# is allowed and brings what topicfilter/a/secret is to keep away (deny-slips)
	//   deny iot:Receive on the topics as well; a Deny of iot:Subscribe sees the filter as text only
}
