package daemon_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unguarded are the functions that may start a goroutine, or a function on a goroutine of
// its own, outside of a [task.Group], and why a panic there does not end the daemon, or may
// end the program. A panic that nobody catches ends the process at once: the kernel lets go
// of the output lines, and relays click.
var unguarded = map[string]string{
	// What catches panics by itself.
	"daemon/task Within":                   "the mechanism: guarded, and an error",
	"daemon/task Start":                    "the mechanism: guarded, and told to the owner",
	"daemon/task Group.Go":                 "the mechanism",
	"daemon Daemon.loadAgain":              "guarded: a panic is an error of the file",
	"daemon/systemd asyncWriter.writeLine": "guarded for each line: it is the log that would tell",
	"sensors/board Machine.input":          "guarded: a panic ends the edges, and is a fault of the sensor",
	"daemon/wake UseKernelTimer":           "guarded: without timers no loop beats, and the watchdog ends the daemon",
	"daemon/wake AfterFunc":                "the mechanism: this test looks at who calls it",
	"daemon/wake kernelTimers.expire":      "calls what AfterFunc was given",
	"daemon/local Server.Run":              "guarded by its task.Group, and Run waits for it",
	"cmd/fieldpost reloadOn":               "calls Daemon.Reload and nothing else, which is guarded",

	// Timers that only change memory or call the standard library.
	"cmd/fieldpost signalContext":         "receives from a channel, and exits where somebody asks a second time",
	"daemon socketCalls.localOrder":       "starts a timer that ends a context",
	"daemon/spool linger.holdLocked":      "sets a flag and a wake.Signal",
	"daemon orderEvents.put":              "sets a wake.Signal",
	"daemon/spool store.unwrittenLocked":  "sets a wake.Signal",
	"daemon/uplink connectThrough":        "sets a deadline",
	"daemon/uplink/mqtt5 Conn.send":       "sets a deadline",
	"daemon/spool diskWatch.do":           "counts, and raises a fault, which is queued",
	"daemon/sampler runner.answerRequest": "ends a context",
	"daemon/netwatch Watch":               "sets a deadline",
	"daemon/uplink connection.open":       "notes an error and closes a connection",
	"daemon/local doOnce":                 "sets a deadline; of client commands",

	// What does not run in the daemon: somebody watches these, and they hold no output.
	"daemon/sampler once":         "`fieldpost read`",
	"cmd/fieldpost lineReader":    "`fieldpost pub`",
	"daemon/uplink Probe.Connect": "`fieldpost doctor`",
	"daemon/uplink Probe.write":   "`fieldpost doctor`",
}

// unwatched are the folders whose goroutines are not looked at, because nothing in them
// runs in the daemon.
var unwatched = []string{
	"daemon/broker", "daemon/daemontest", "daemon/footprint", // for demos and tests
	"daemon/doctor", "cmd/fieldpost-provision", "cmd/fieldpost-hw", // client commands
	"sensors/sim", "sensors/scan", // the simulated board; `fieldpost scan`
}

// startsGoroutine says how a node starts one outside of a group; "" where it does not.
func startsGoroutine(n ast.Node) string {
	if _, ok := n.(*ast.GoStmt); ok {
		return "go statement"
	}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	switch {
	case !ok:
		return ""
	case f.Sel.Name == "Go" && len(call.Args) == 1: // a group's has two
		return "WaitGroup.Go"
	case f.Sel.Name == "AfterFunc" && !callsGroup(call.Args[len(call.Args)-1]):
		return "AfterFunc"
	}
	return ""
}

// callsGroup reports whether a function consists of a call of [task.Group.Call].
func callsGroup(f ast.Expr) bool {
	lit, ok := f.(*ast.FuncLit)
	if !ok || len(lit.Body.List) != 1 {
		return false
	}
	s, ok := lit.Body.List[0].(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := s.X.(*ast.CallExpr)
	if !ok || len(call.Args) != 2 {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Call"
}

// nameOf gives a function's name, with its receiver's type.
func nameOf(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok {
		return "package level"
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	if p, ok := of.(*ast.StarExpr); ok {
		of = p.X
	}
	if g, ok := of.(*ast.IndexExpr); ok {
		of = g.X
	}
	return fmt.Sprint(of, ".", f.Name.Name)
}

// Every goroutine that may run in the daemon is started in a [task.Group], or is in the
// list of those that need none.
func TestGoroutinesAreGuarded(t *testing.T) {
	root := ".."
	used := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || slices.Contains(unwatched, rel)) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") || rel == "cmd/fieldpost/simulated.go" { // of `make chaos`
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			ast.Inspect(decl, func(n ast.Node) bool {
				how := startsGoroutine(n)
				if how == "" {
					return true
				}
				name := path.Dir(rel) + " " + nameOf(decl)
				if used[name] = true; unguarded[name] == "" {
					t.Errorf("%s: %s in %q: start it in a task.Group, or say in daemon/goroutines_test.go why a panic there ends no daemon", set.Position(n.Pos()), how, name)
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range unguarded {
		if !used[name] {
			t.Errorf("%q is in the list, and starts no goroutine", name)
		}
	}
}

func TestStartsGoroutine(t *testing.T) {
	for source, want := range map[string]int{
		"go g()":                          1,
		"go func() {}()":                  1,
		"wg.Go(func() {})":                1,
		"wg.Go(g)":                        1,
		"time.AfterFunc(d, g)":            1,
		"context.AfterFunc(x, func() {})": 1,
		`others.Go("name", g)`:            0,
		`time.AfterFunc(d, func() { others.Call("name", g) })`:          0,
		`time.AfterFunc(d, func() { others.Call("name", g); again() })`: 1,
		"f.Go()": 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; func f() { "+source+" }", parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		ast.Inspect(file, func(n ast.Node) bool {
			if startsGoroutine(n) != "" {
				got++
			}
			return true
		})
		if got != want {
			t.Errorf("%s: found %d, want %d", source, got, want)
		}
	}
}
