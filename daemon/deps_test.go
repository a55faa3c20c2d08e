package daemon_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// rooms says where a module from outside may be imported: below these folders
// of the repository. One that is not listed may be imported nowhere: a new
// dependency begins with a line here and its reason in the commit.
var rooms = map[string][]string{
	"periph.io":                           {"sensors", "daemon/output"},
	"github.com/warthog618/go-gpiocdev":   {"sensors/board"},
	"github.com/eclipse/paho.mqtt.golang": {"daemon/uplink"},
	"github.com/eclipse/paho.golang":      {"daemon/uplink/mqtt5"},
	"github.com/coreos/go-systemd":        {"daemon/systemd"},
	"github.com/mochi-mqtt/server":        {"daemon/broker"},
	"github.com/spf13/cobra":              {"cmd"},
	"golang.org/x/term":                   {"cmd"},
	"github.com/aws":                      {"cmd/fieldpost-provision"},
	"gopkg.in/yaml.v3":                    {"daemon/config"},
	"golang.org/x/sys":                    {"cmd", "daemon", "sensors"},
}

// testRooms is where tests may import a module besides.
var testRooms = map[string][]string{
	"github.com/rogpeppe/go-internal": {"cmd"},
	"go.uber.org/goleak":              {"cmd", "daemon", "sensors"},
	"github.com/santhosh-tekuri":      {"daemon/config"},                      // validates configurations against the schema
	"github.com/chromedp":             {"daemon/interop"},                     // drives a browser
	"github.com/prometheus":           {"daemon"},                             // its linter of metrics
	"periph.io":                       {"daemon/sampler", "daemon/footprint"}, // their fake boards have to name the bus's type
}

// testHelpers are the packages that are there for tests.
var testHelpers = []string{"daemon/durable/durabletest", "daemon/clock/clocktest", "daemon/journal/journaltest", "daemon/certtest", "daemon/goldentest", "daemon/netwatch/netnstest", "cmd/fieldpost-provision/controltest"}

// wholeDaemon are the folders of tests that run the whole daemon, besides its own.
var wholeDaemon = []string{"daemon/chaos", "daemon/interop", "daemon/footprint"}

// forbidden says why a file in this folder of the repository may not import
// this package; "" when it may.
func forbidden(folder, imported string, test bool) string {
	if ours, ok := strings.CutPrefix(imported, "fieldpost/"); ok {
		switch {
		case below(ours, "cmd") && !below(folder, "cmd"):
			return "only cmd may import cmd"
		case below(ours, "cmd/fieldpost-provision") && !below(folder, "cmd/fieldpost-provision"):
			return "the AWS SDK stays out of the daemon"
		case below(ours, "daemon") && below(folder, "sensors"):
			return "sensors may not import daemon: imports point cmd -> daemon -> sensors"
		case below(ours, "daemon/daemontest") && !(test && (within(folder, wholeDaemon) == "" || folder == "daemon" || below(folder, "cmd"))):
			return "only tests of the whole daemon may import this"
		case folder == "daemon/daemontest":
			return ""
		case below(ours, "daemon/rehearse") && !below(folder, "cmd") && folder != "daemon/rehearse":
			return "a rehearsal is the command line's affair"
		case folder == "daemon/rehearse": // it puts a whole daemon on a simulated board together
			return ""
		case ours == "daemon" && below(folder, "daemon") && !(test && (within(folder, wholeDaemon) == "" || folder == "daemon")):
			return "the rooms of daemon may not import the daemon that joins them"
		case below(ours, "daemon") && !test && folder == "daemon/awsiot":
			return "daemon/awsiot is for other programs too, and imports nothing of this one"
		case below(ours, "daemon") && below(folder, "daemon/wake"):
			return "daemon/wake is a channel of its own and needs nobody"
		case within(ours, testHelpers) == "" && !test && within(folder, testHelpers) != "":
			return "only tests may import this"
		case below(ours, "daemon") && !test && below(folder, "daemon/durable") && !below(ours, "daemon/regular") && !below(ours, "daemon/durable"):
			return "daemon/durable knows files, and nothing of what is in them"
		case below(ours, "daemon") && !test && below(folder, "daemon/journal") && within(ours, []string{"daemon/durable", "daemon/journal", "daemon/wake"}) != "":
			return "daemon/journal knows daemon/durable alone: entries are its users' affair"
		case below(ours, "daemon") && !test && below(folder, "daemon/message") && within(ours, []string{"daemon/clock", "daemon/durable"}) != "":
			return "daemon/message knows what is told, and not how it is kept or sent"
		case below(ours, "daemon") && !test && below(folder, "daemon/api"):
			return "daemon/api holds types, and knows no room of the daemon"
		case below(ours, "sensors/sim") && !test && below(folder, "daemon"):
			return "the simulated board is for the demo, for rehearsals and for tests"
		case ours == "daemon/broker" && !test && !below(folder, "cmd"):
			return "the stand-in for a broker is for the demo, for trials and for tests"
		case below(ours, "daemon/doctor") && !test && !below(folder, "cmd"):
			return "what is examined before a run is the command line's affair"
		case below(ours, "daemon/provision") && !test && folder != "daemon" && folder != "daemon/doctor":
			return "daemon alone joins provisioning to the link"
		case below(ours, "daemon/metrics") && !test && folder != "daemon":
			return "the metrics are made from what daemon reports"
		case below(ours, "daemon/outbox") && !test && folder != "daemon":
			return "daemon alone joins the outbox to the link"
		case below(ours, "daemon") && !test && below(folder, "daemon/clock") && within(ours, []string{"daemon/clock", "daemon/journal"}) != "":
			return "daemon/clock knows the time, and the journal in which it is remembered"
		case below(ours, "daemon/client") && !test && !below(folder, "cmd") && folder != "daemon":
			return "the client commands are the command line's"
		case (below(ours, "daemon/spool") || below(ours, "daemon/records")) && !test && within(folder, []string{"daemon/command", "daemon/output", "daemon/sampler"}) == "":
			return "who makes messages does not know where they wait"
		case below(ours, "daemon") && !test && below(folder, "daemon/spool") && within(ours, []string{"daemon/clock", "daemon/durable", "daemon/health", "daemon/journal", "daemon/regular", "daemon/spool", "daemon/task", "daemon/wake"}) != "",
			below(ours, "sensors") && !test && below(folder, "daemon/spool"):
			return "daemon/spool keeps bytes: what they say is daemon/message's affair, and daemon/records joins the two"
		}
		return ""
	}
	if folder == "daemon/spool" && imported == "encoding/json" && !test {
		return "the spool keeps bytes; JSON is daemon/message's"
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	var may []string
	known := false
	for module, folders := range rooms {
		if below(imported, module) {
			may, known = append(may, folders...), true
		}
	}
	for module, folders := range testRooms {
		if below(imported, module) {
			known = true
			if test {
				may = append(may, folders...)
			}
		}
	}
	if !known {
		return "this module is not in the list of daemon/deps_test.go"
	}
	return within(folder, may)
}

func within(folder string, folders []string) string {
	for _, f := range folders {
		if below(folder, f) {
			return ""
		}
	}
	if len(folders) == 0 {
		return "only tests may import this"
	}
	return "this may be imported in " + strings.Join(folders, ", ") + " only"
}

// below reports whether a path is another, or under it.
func below(path, top string) bool {
	return path == top || strings.HasPrefix(path, top+"/")
}

// uses returns the positions of a function of package time, called or only mentioned,
// under whatever name the file imports that package.
func uses(file *ast.File, function string) (at []token.Pos) {
	name := ""
	for _, imported := range file.Imports {
		if p, _ := strconv.Unquote(imported.Path.Value); p == "time" {
			name = "time"
			if imported.Name != nil {
				name = imported.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && name != "" && x.Name == name && n.Sel.Name == function {
				at = append(at, n.Pos())
			}
		case *ast.Ident:
			if name == "." && n.Name == function {
				at = append(at, n.Pos())
			}
		}
		return true
	})
	return at
}

// Imports point one way, third-party modules stay in their rooms, nothing sleeps, and only
// tests use time.After. That holds for all Go files, whatever they are built for.
func TestImportsAndSleeps(t *testing.T) {
	root := ".."
	files := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" {
			return nil
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		folder := path.Dir(filepath.ToSlash(rel))
		for _, imported := range file.Imports {
			name, err := strconv.Unquote(imported.Path.Value)
			if err != nil {
				return err
			}
			if why := forbidden(folder, name, strings.HasSuffix(p, "_test.go")); why != "" {
				t.Errorf("%s: import of %s: %s", set.Position(imported.Pos()), name, why)
			}
		}
		for _, pos := range uses(file, "Sleep") {
			t.Errorf("%s: time.Sleep: use testing/synctest, a timer's channel or another channel", set.Position(pos))
		}
		if !strings.HasSuffix(p, "_test.go") {
			for _, pos := range uses(file, "After") {
				t.Errorf("%s: time.After: use a timer that its owner stops", set.Position(pos))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("looked at %d files only: is %s the repository?", files, root)
	}
}

func TestForbidden(t *testing.T) {
	for _, tc := range []struct {
		folder, imported string
		test, want       bool
	}{
		{"sensors", "fieldpost/daemon/config", false, true},
		{"sensors/board", "fieldpost/sensors", false, false},
		{"sensors", "fieldpost/cmd/fieldpost", false, true},
		{"daemon", "fieldpost/cmd/fieldpost", true, true},
		{"daemon", "fieldpost/sensors/board", false, false},
		{"daemon/uplink", "fieldpost/daemon", false, true},
		{"daemon/uplink", "fieldpost/daemon", true, true},
		{"daemon", "fieldpost/daemon", true, false},
		{"daemon/chaos", "fieldpost/daemon", true, false},
		{"daemon/chaos", "fieldpost/daemon", false, true},
		{"daemon/daemontest", "fieldpost/daemon", false, false},
		{"daemon/daemontest", "fieldpost/sensors/sim", false, false},
		{"daemon/daemontest", "fieldpost/cmd/fieldpost", false, true},
		{"daemon", "fieldpost/daemon/daemontest", false, true},
		{"daemon", "fieldpost/daemon/daemontest", true, false},
		{"daemon/interop", "fieldpost/daemon/daemontest", true, false},
		{"daemon/interop", "fieldpost/daemon/daemontest", false, true},
		{"daemon/uplink", "fieldpost/daemon/daemontest", true, true},
		{"cmd/fieldpost", "fieldpost/daemon/daemontest", true, false},
		{"cmd/fieldpost", "fieldpost/daemon/daemontest", false, true},
		{"daemon/durable", "fieldpost/daemon/regular", false, false},
		{"daemon/durable", "fieldpost/daemon/clock", false, true},
		{"daemon/journal", "fieldpost/daemon/durable", false, false},
		{"daemon/journal", "fieldpost/daemon/spool", false, true},
		{"daemon/journal", "fieldpost/daemon/wake", false, false},
		{"daemon/wake", "fieldpost/daemon/health", false, true},
		{"daemon/journal", "fieldpost/daemon/durable/durabletest", true, false},
		{"daemon/spool", "fieldpost/daemon/durable/durabletest", false, true},
		{"daemon/spool", "fieldpost/daemon/journal", false, false},
		{"daemon/output", "fieldpost/daemon/spool", false, true},
		{"daemon/output", "fieldpost/daemon/journal", false, false},
		{"daemon/command", "fieldpost/daemon/spool", true, false},
		{"daemon/awsiot", "fieldpost/daemon/topic", false, true},
		{"daemon/awsiot/need", "fieldpost/daemon/config", false, false},
		{"daemon/message", "fieldpost/daemon/spool", false, true},
		{"daemon/journal/journaltest", "fieldpost/daemon/journal", false, false},
		{"daemon/clock", "fieldpost/daemon/clock/clocktest", false, true},
		{"daemon/clock/clocktest", "fieldpost/daemon/clock", false, false},
		{"daemon/outbox", "fieldpost/daemon/clock/clocktest", true, false},
		{"daemon/outbox", "fieldpost/daemon/spool", false, false},
		{"daemon/uplink", "fieldpost/daemon/outbox", false, true},
		{"daemon/uplink", "fieldpost/daemon/provision", false, true},
		{"daemon/doctor", "fieldpost/daemon/provision", false, false},
		{"daemon", "fieldpost/daemon/outbox", false, false},
		{"daemon", "fieldpost/daemon/broker", false, true},
		{"daemon", "fieldpost/daemon/broker", true, false},
		{"daemon", "fieldpost/sensors/sim", false, true},
		{"daemon/sampler", "fieldpost/sensors/sim", true, false},
		{"cmd/fieldpost", "fieldpost/sensors/sim", false, false},
		{"daemon", "fieldpost/daemon/doctor", false, true},
		{"cmd/fieldpost", "fieldpost/daemon/doctor", false, false},
		{"daemon/clock", "fieldpost/daemon/message", false, true},
		{"daemon/clock", "fieldpost/daemon/journal", false, false},
		{"daemon/api", "fieldpost/daemon/clock", false, true},
		{"daemon/api", "fieldpost/sensors", false, false},
		{"daemon/local", "fieldpost/daemon/client", false, true},
		{"daemon", "fieldpost/daemon/client", true, false},
		{"daemon/client", "fieldpost/daemon", false, true},
		{"daemon/client", "fieldpost/daemon/api", false, false},
		{"daemon/local", "fieldpost/daemon/metrics", false, true},
		{"daemon", "fieldpost/daemon/metrics", false, false},
		{"daemon/metrics", "github.com/prometheus/client_golang/prometheus/testutil/promlint", true, false},
		{"daemon/metrics", "github.com/prometheus/client_golang/prometheus", false, true},
		{"daemon/spool", "encoding/json", false, true},
		{"daemon/spool", "fieldpost/daemon/message", false, true},
		{"daemon/spool", "fieldpost/daemon/message", true, false},
		{"daemon/spool", "fieldpost/sensors", false, true},
		{"daemon/spool", "fieldpost/daemon/clock", false, false},
		{"daemon/records", "fieldpost/daemon/message", false, false},
		{"daemon/sampler", "fieldpost/daemon/records", false, true},
		{"daemon/message", "encoding/json", false, false},
		{"daemon/message", "fieldpost/daemon/clock", false, false},
		{"cmd/fieldpost", "fieldpost/daemon", false, false},
		{"cmd/fieldpost", "fieldpost/sensors/board", false, false},
		{"daemon", "net/http", false, false},
		{"daemon/config", "gopkg.in/yaml.v3", false, false},
		{"daemon", "gopkg.in/yaml.v3", true, true},
		{"daemon/uplink", "github.com/eclipse/paho.mqtt.golang/packets", true, false},
		{"daemon/broker", "github.com/eclipse/paho.mqtt.golang", true, true},
		{"daemon/broker", "github.com/mochi-mqtt/server/v2/packets", false, false},
		{"daemon/brokers", "github.com/mochi-mqtt/server/v2", false, true},
		{"sensors/board", "github.com/warthog618/go-gpiocdev/uapi", false, false},
		{"daemon/output", "github.com/warthog618/go-gpiocdev", false, true},
		{"daemon/output", "periph.io/x/conn/v3/gpio", false, false},
		{"daemon/sampler", "periph.io/x/conn/v3/physic", false, true},
		{"daemon/sampler", "periph.io/x/conn/v3/physic", true, false},
		{"daemon/command", "periph.io/x/conn/v3/physic", true, true},
		{"sensors/sim", "periph.io/x/conn/v3/i2c", false, false},
		{"daemon/systemd", "github.com/coreos/go-systemd/v22/daemon", false, false},
		{"cmd/fieldpost", "github.com/coreos/go-systemd/v22/daemon", false, true},
		{"cmd/fieldpost", "github.com/spf13/cobra", false, false},
		{"cmd/fieldpost", "github.com/aws/aws-sdk-go-v2/service/iot", false, true},
		{"daemon/awsiot", "github.com/aws/aws-sdk-go-v2/service/iot", true, true},
		{"cmd/fieldpost-provision", "github.com/aws/aws-sdk-go-v2/service/iot", false, false},
		{"cmd/fieldpost", "fieldpost/cmd/fieldpost-provision/controltest", true, true},
		{"cmd/fieldpost-provision", "fieldpost/cmd/fieldpost-provision/controltest", true, false},
		{"cmd/fieldpost-provision", "fieldpost/cmd/fieldpost-provision/controltest", false, true},
		{"daemon", "go.uber.org/goleak", true, false},
		{"daemon", "go.uber.org/goleak", false, true},
		{"cmd/fieldpost", "github.com/rogpeppe/go-internal/testscript", true, false},
		{"daemon", "github.com/stretchr/testify", true, true},
		{"deploy/vm", "golang.org/x/sys/unix", false, true},
	} {
		if why := forbidden(tc.folder, tc.imported, tc.test); (why != "") != tc.want {
			t.Errorf("%s imports %s (test %v): got %q, want forbidden %v", tc.folder, tc.imported, tc.test, why, tc.want)
		}
	}
}

func TestSleeps(t *testing.T) {
	for source, want := range map[string]int{
		`import "time"; func f() { time.Sleep(1) }`:               1,
		`import "time"; var sleep = time.Sleep`:                   1,
		`import clock "time"; func f() { clock.Sleep(1) }`:        1,
		`import . "time"; func f() { Sleep(1) }`:                  1,
		`import "time"; func f() { time.Now(); bed.Sleep() }`:     0,
		`import "fieldpost/time"; func f() { time.Sleep(1) }`:     0,
		`import "time"; type bed struct{}; func (bed) Sleep() {}`: 0,
		`// time.Sleep in a comment`:                              0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := uses(file, "Sleep"); len(got) != want {
			t.Errorf("%s: found %d, want %d", source, len(got), want)
		}
	}
}
