package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/api"
)

// A reload after which something hangs prints what changed and what hangs, and fails.
func TestReloadThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != api.PostReload.Method || r.URL.Path != api.PostReload.Path {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(api.Changes{
			File: "/etc/a.yaml", Outputs: []api.Change{{Name: "pump", Change: api.Kept}, {Name: "fan", Change: api.Added}},
			Reconnects: []string{"endpoint", "will"}, Slow: []string{"outputs", "link"},
		})
	})}
	go func() { served <- web.Serve(l) }()
	t.Cleanup(func() {
		web.Close()
		<-served
	})
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs([]string{"reload", "--socket", socket})
	if status := report(&errs, root.ExecuteContext(t.Context())); status != exitFailed || !strings.Contains(errs.String(), "something hangs and these do not use it yet: outputs, link; see") {
		t.Errorf("status %d: %s", status, errs.String())
	}
	want := "/etc/a.yaml: reloaded\n  output fan: added\n  new connection, because of: endpoint, will\n"
	if out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
}
