package local

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"fieldpost/daemon/api"
)

// A route with a query gets it as an object of strings, and each key once; what has no such
// form is refused.
func TestQuery(t *testing.T) {
	for raw, want := range map[string]string{
		"":                           "{}\n",
		"sensor=air&since=1d":        `{"sensor":"air","since":"1d"}` + "\n",
		"sensor=%C3%BC+%22&points=":  `{"points":"","sensor":"ü \""}` + "\n",
		"since=2026-11-29T08:00:00Z": `{"since":"2026-11-29T08:00:00Z"}` + "\n",
	} {
		if got, failed := query(raw); failed != nil || string(got) != want {
			t.Errorf("%q: got %q, %v", raw, got, failed)
		}
	}
	for _, raw := range []string{"a=1&a=2", "a=%zz", "a=%ff", "%ff=a", "a=1;b=2", strings.Repeat("a&", 10)} {
		if got, failed := query(raw); failed == nil || failed.Code != api.Malformed || failed.Hint == "" {
			t.Errorf("%q: got %q, %v", raw, got, failed)
		}
	}
}

// Do puts what it is given into the query of a route that has one.
func TestDoWithQuery(t *testing.T) {
	path, _ := serve(t, map[string]Call{"query": func(_ context.Context, _ Peer, query json.RawMessage) (any, error) {
		var q api.HistoryQuery
		if err := Arguments(query, &q); err != nil {
			return nil, err
		}
		return q, nil
	}})
	r := route("query")
	r.Query = api.HistoryQuery{}
	with, got := api.HistoryQuery{Sensor: "ä&b=c", Since: "1d"}, api.HistoryQuery{}
	err := Do(context.Background(), path, r, with, &got)
	if err != nil || got != with {
		t.Errorf("got %+v, %v", got, err)
	}
}
