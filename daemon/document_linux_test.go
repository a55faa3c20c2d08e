package daemon_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/daemontest"
)

// openAPI is what of the document the test holds answers against.
type openAPI struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

type operation struct {
	OperationID string
	Responses   map[string]struct {
		Content map[string]struct{ Schema schema }
	}
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Properties map[string]schema
	Required   []string
	Items      *schema
	Additional any `json:"additionalProperties"`
}

// problems says where a value is not as a schema wants it, strictly: a key that
// the schema does not have is one.
func (d openAPI) problems(at string, v any, s schema) (all []string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = d.Components.Schemas[name]
	}
	wrong := func() []string { return []string{fmt.Sprintf("%s: %v is no %v", at, v, s.Type)} }
	if types, several := s.Type.([]any); several && len(types) == 2 && types[1] == "null" { // a column's
		if v == nil {
			return nil
		}
		s.Type = types[0]
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			return wrong()
		}
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				all = append(all, fmt.Sprintf("%s: no key %q", at, key))
			}
		}
		for key, value := range v {
			property, known := s.Properties[key]
			switch {
			case known:
				all = append(all, d.problems(at+"."+key, value, property)...)
			case s.Properties != nil:
				all = append(all, fmt.Sprintf("%s: key %q is not in the document", at, key))
			}
		}
	case []any:
		if s.Type != "array" {
			return wrong()
		}
		for i, value := range v {
			all = append(all, d.problems(fmt.Sprintf("%s[%d]", at, i), value, *s.Items)...)
		}
	case string:
		if s.Type != "string" {
			return wrong()
		}
		if _, err := time.Parse(time.RFC3339, v); s.Format == "date-time" && err != nil {
			return wrong()
		}
	case bool:
		if s.Type != "boolean" {
			return wrong()
		}
	case json.Number:
		if _, err := v.Int64(); s.Type != "number" && (s.Type != "integer" || err != nil) {
			return wrong()
		}
	default:
		return wrong()
	}
	return all
}

// askHTTP makes a request as any HTTP client does.
func askHTTP(t *testing.T, socket string, r api.Route, body string) (status int, answer []byte) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request, err := http.NewRequest(r.Method, "http://localhost"+r.Path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if err := request.Write(c); err != nil {
		t.Fatal(err)
	}
	a, err := http.ReadResponse(bufio.NewReader(c), request)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if answer, err = io.ReadAll(a.Body); err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, answer
}

// historyOf returns the route of the history with a query.
func historyOf(query string) api.Route {
	r := api.GetHistory
	r.Path += query
	return r
}

// The OpenAPI document that the daemon serves says what it answers: each status
// that is of one route, and each key, with and without sensors, outputs and faults.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Board.Line("GPIO5").Hold("gpio-keys")
	r, socket := s.StartWithSocket(s.Config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 1s}", "  - {name: fan, pin: GPIO5}"))
	r.AwaitLink(t)
	daemontest.AwaitStatus(t, socket, "readings and faults", func(r api.Status) bool { return len(r.Sensors[0].Values) == 3 && len(r.Faults) == 2 })
	bare := daemontest.NewSite(t, nil)
	cfg := bare.Config("", "")
	cfg.Sensors, cfg.Outputs = nil, nil
	_, bareSocket := bare.StartWithSocket(cfg)
	daemontest.AwaitStatus(t, bareSocket, "answer", func(api.Status) bool { return true })
	wrong := daemontest.NewSite(t, nil)
	_, wrongSocket := wrong.StartWithSocket(wrong.Config("", ""))
	daemontest.AwaitStatus(t, wrongSocket, "answer", func(api.Status) bool { return true })
	rewrite(t, wrong, "thing: other\nbroker: {endpoint: 3, port: 1}\n")
	mayNotConnect := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}, {"Effect": "Deny", "Action": "iot:Connect", "Resource": "*"}]}`
	fleet, _ := fleetSite(t, &broker.Provisioning{Templates: []*broker.Template{fleetTemplate(t, "first", ""), fleetTemplate(t, "later", mayNotConnect)}})
	fleetCfg := fleetFile(fleet, "thing-greenhouse")
	f, fleetSocket := fleet.StartWithSocket(fleetCfg)
	f.AwaitLink(t)
	inPlace(t, fleetSocket, fleetCfg)

	status, text := askHTTP(t, socket, api.GetDocument, "")
	var doc openAPI
	if err := json.Unmarshal(text, &doc); err != nil || status != http.StatusOK || len(doc.Paths) < 5 {
		t.Fatalf("document: %d, %v: %.200s", status, err, text)
	}
	unseen := slices.Clone(api.Routes)
	life := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	order := func(thing, action string) string {
		return fmt.Sprintf(`{"id":"c-%s","thing":%q,"output":"pump","action":%q,"expires":%q}`, action, thing, action, life)
	}
	for _, c := range []struct {
		socket string
		route  api.Route
		body   string
		status int
	}{
		{socket, api.GetStatus, "", 200},
		{bareSocket, api.GetStatus, "", 200},
		{socket, api.PostOrder, order("thing-greenhouse", "on"), 200},
		{socket, api.PostOrder, order("thing-greenhouse", "explode"), 200},
		{socket, api.PostOrder, order("thing-other", "on"), 409},
		{socket, api.PostOrder, `{"id":`, 400},
		{socket, api.PostRead, `{"sensor":"air"}`, 200},
		{socket, api.PostRead, `{"sensor":"gone"}`, 502},
		{socket, api.PostRead, `{"sensor":"moon"}`, 404},
		{socket, api.PostRead, `{"sensor":"air","thing":"thing-other"}`, 409},
		{socket, api.PostRead, `{"sensor":"air","unit":"K"}`, 400},
		{socket, api.PostReconnect, "", 200},
		{socket, api.PostReconnect, `{"thing":"thing-other"}`, 409},
		{socket, api.PostReconnect, `[]`, 400},
		{socket, api.PostRenew, `{"thing":"thing-other"}`, 409},
		{socket, api.PostRenew, "", 409},
		{fleetSocket, api.PostRenew, "", 502},
		{socket, api.PostDiff, "", 200},
		{socket, api.PostReload, "", 200},
		{bareSocket, api.PostDiff, "", 200},
		{bareSocket, api.PostReload, "", 200},
		{wrongSocket, api.PostDiff, "", 422},
		{wrongSocket, api.PostReload, "", 422},
		{socket, historyOf("?sensor=air&quantity=temperature&since=1d&points=100"), "", 200},
		{socket, historyOf(""), "", 200},
		{socket, historyOf("?sensor=moon"), "", 404},
		{socket, historyOf("?sensor=air&quantity=mood"), "", 404},
		{socket, historyOf("?sensor=gone"), "", 404},
		{socket, historyOf("?sensor=air&since=soon"), "", 400},
		{socket, historyOf("?sensor=air&mood=1"), "", 400},
		{socket, historyOf("?sensor=air&sensor=gone"), "", 400},
		{socket, historyOf("?sensor=%zz"), "", 400},
		{bareSocket, historyOf(""), "", 200},
		{socket, api.GetDocument, "", 200},
	} {
		status, text := askHTTP(t, c.socket, c.route, c.body)
		path, _, _ := strings.Cut(c.route.Path, "?")
		described, ok := doc.Paths[path][strings.ToLower(c.route.Method)].Responses[fmt.Sprint(status)]
		if status != c.status || !ok {
			t.Errorf("%s %s: status %d, want %d; in the document %v: %s", c.route.Path, c.body, status, c.status, ok, text)
		}
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Errorf("%s %s: %v", c.route.Path, c.body, err)
		}
		for _, p := range doc.problems("answer", v, described.Content["application/json"].Schema) {
			t.Errorf("%s %s: %s", c.route.Path, c.body, p)
		}
		for i := range unseen { // each status that is of one route has been seen
			if unseen[i].Name == c.route.Name {
				unseen[i].Statuses = slices.DeleteFunc(slices.Clone(unseen[i].Statuses), func(n int) bool { return n == status })
			}
		}
	}
	for _, r := range unseen {
		if len(r.Statuses) > 0 {
			t.Errorf("%s was not seen to answer %v", r.Name, r.Statuses)
		}
	}
}

// The README's lines for curl work, and the error is what it shows.
func TestCurlInTheREADME(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("FIELDPOST_REQUIRE_MOSQUITTO") == "1" {
			t.Fatalf("FIELDPOST_REQUIRE_MOSQUITTO is set, but %v", err)
		}
		t.Skipf("NOT TESTED with curl: %v", err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Over HTTP, on the board\n")
	blocks := regexp.MustCompile("(?ms)^```(sh|json)\n(.*?)^```$").FindAllStringSubmatch(section, 2)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks in that section", len(blocks))
	}
	s := daemontest.NewSite(t, nil)
	r, socket := s.StartWithSocket(s.Config("", ""))
	r.AwaitLink(t)
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	script := strings.ReplaceAll(blocks[0][2], "curl ", "curl -sS -w '\\n%{http_code}\\n' ")
	shell := exec.Command("sh", "-e")
	shell.Stdin = strings.NewReader(strings.ReplaceAll(script, "/run/fieldpost/fieldpost.sock", socket))
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"thing":"thing-greenhouse"`, `{"id":"c-82","status":"done","output":"pump","state":"on"}`, `{"connected":true`, `"openapi": "3.1.0"`, "\nfieldpost_link_connected 1\n", blocks[1][2] + "\n404\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "\n200\n"); n != 5 {
		t.Errorf("%d of 5 are answered well:\n%s", n, out)
	}
}
