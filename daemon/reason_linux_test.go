package daemon_test

import (
	"strings"
	"testing"

	"fieldpost/daemon/api"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/daemontest"
)

// Where the broker closes the connection on the subscription to the orders, the fault quotes the
// reason that it gives over MQTT 5.
func TestFaultQuotesTheBroker(t *testing.T) {
	policy, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"*","Resource":"*"},
		{"Effect":"Deny","Action":"iot:Subscribe","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := daemontest.NewSite(t, policy)
	_, socket := s.StartWithSocket(s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "the broker's reason", func(st api.Status) bool {
		for _, f := range st.Faults {
			if f.Code == "subscribe_denied" && strings.Contains(f.Detail, "it says SUBACK 135: not authorized") {
				return true
			}
		}
		return false
	})
}
