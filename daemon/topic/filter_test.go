package topic

import (
	"strings"
	"testing"
)

// The examples of MQTT 3.1.1, sections 4.7.1 to 4.7.3, and their edges.
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter string
		yes    string
		no     string
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1 sport/tennis/player1/ sport/tennis/player1/ranking sport/tennis/player1/score/wimbledon", "sport/tennis sport/tennis/player10 sport/tennis/player2/x"},
		{"sport/#", "sport sport/ sport/a", "sports sport2/a /sport"},
		{"#", "a /a a/b/c /", "$SYS $SYS/monitor/Clients $"},
		{"+", "finance a", "/finance finance/ a/b $SYS"},
		{"+/+", "/finance a/b /", "finance a/b/c $SYS/x"},
		{"/+", "/finance /", "finance /a/b"},
		{"sport/tennis/+", "sport/tennis/player1 sport/tennis/", "sport/tennis sport/tennis/player1/ranking"},
		{"sport/+", "sport/", "sport"},
		{"+/tennis/#", "sport/tennis sport/tennis/a/b", "sport tennis $x/tennis"},
		{"sport/+/player1", "sport/tennis/player1", "sport/tennis/player2 sport/player1 sport/a/b/player1"},
		{"$SYS/#", "$SYS $SYS/a", "SYS/a a/$SYS"},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", "$SYS/monitor"},
		{"+/monitor/Clients", "x/monitor/Clients", "$SYS/monitor/Clients"},
		{"a/$b", "a/$b", "a/b"},
		{"a/+/#", "a/$b a/b/c", "a"},
		{"test/topic", "test/topic", "test/topic/ test/Topic /test/topic test/topi test"},
		{"$share/group/test/+", "test/a", "$share/group/test/a test group/test/a"},
		{"$share/group/#", "a a/b", "$SYS/x"},
		{"/", "/", "a a/ /a"},
	} {
		for _, topic := range strings.Fields(c.yes) {
			if !Matches(c.filter, topic) {
				t.Errorf("%q does not match %q", c.filter, topic)
			}
		}
		for _, topic := range strings.Fields(c.no) {
			if Matches(c.filter, topic) {
				t.Errorf("%q matches %q", c.filter, topic)
			}
		}
	}
}
