package uplink

import (
	"errors"
	"strings"
	"testing"

	"fieldpost/daemon/health"
)

// A reason code of MQTT 5 leads to the same fault as the hang-up, but without doubt.
func TestExplainReason(t *testing.T) {
	for _, c := range []struct {
		packet string
		code   byte
		text   string
		phase  Phase
		want   health.Code
		says   []string
	}{
		{"CONNACK", 133, "", Connecting, health.ConnectRefused, []string{"CONNACK 133: client identifier not valid", `"board"`}},
		{"CONNACK", 134, "", Connecting, health.LoginRefused, []string{"bad user name or password"}},
		{"CONNACK", 135, "no\x1b[2Jpolicy", Connecting, health.ConnectRefused, []string{`("no\x1b[2Jpolicy")`, "iot:Connect on client/board"}},
		{"CONNACK", 136, "", Connecting, health.NetworkDown, []string{"not available"}},
		{"SUBACK", 135, "", Subscribing, health.SubscribeDenied, []string{"topicfilter/a"}},
		{"SUBACK", 143, "", Subscribing, health.SubscribeDenied, []string{"topic filter invalid"}},
		{"PUBACK", 135, "", Publishing, health.PublishDenied, []string{"iot:Publish on topic/a"}},
		{"PUBACK", 151, "", Publishing, health.NoAcknowledgement, []string{"quota exceeded"}},
		{"DISCONNECT", 135, "", Publishing, health.PublishDenied, []string{"DISCONNECT 135"}},
		{"DISCONNECT", 141, "", Idle, health.NetworkDown, []string{"keep alive timeout"}},
		{"DISCONNECT", 142, "", Subscribing, health.DuplicateClient, []string{"another client"}},
		{"DISCONNECT", 250, "", Idle, health.NetworkDown, []string{"unknown reason"}},
	} {
		e := ExplainReason(&Reason{Packet: c.packet, Code: c.code, Text: c.text}, Disconnect{Phase: c.phase, ClientID: "board", Topic: "a"})
		checkSays(t, e, c.want, c.says...)
		if Inferred(e) {
			t.Errorf("%v is a conclusion", e)
		}
		if strings.Contains(e.Hint, orRival) {
			t.Errorf("%v: in doubt: %s", e, e.Hint)
		}
		var r *Reason
		if !errors.As(e, &r) || r.Code != c.code {
			t.Errorf("%v has lost its code", e)
		}
	}
}
