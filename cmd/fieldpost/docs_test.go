package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fieldpost/daemon/command"
	"fieldpost/daemon/goldentest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/metrics"

	"github.com/spf13/cobra"
)

// root is the root of the repository.
const root = "../.."

// documents returns all Markdown documents by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	for _, pattern := range []string{"*/*.md", "*/*/*.md"} {
		more, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range more {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, rel)
		}
	}
	all := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	for _, name := range []string{"README.md", "configs/README.md", "sensors/README.md", "deploy/README.md", "daemon/README.md", "daemon/DESIGN.md", "deploy/vm/README.md"} {
		if all[name] == "" {
			t.Errorf("there is no %s", name)
		}
	}
	return all
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	jsonBlock    = regexp.MustCompile("(?ms)^ *```json\n(.*?)^ *```$")
)

// anchors returns the anchors that a document's headings have in links.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		all[strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return all
}

// Every link to a file of the repository, and to a heading in it, has a target.
func TestLinksOfDocuments(t *testing.T) {
	all, links := documents(t), 0
	for name, text := range all {
		for _, m := range markdownLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %q: %v", name, m[1], err)
			} else if anchor != "" && !anchors(all[target])[anchor] {
				t.Errorf("%s links to %q: %s has no such heading", name, m[1], target)
			}
		}
	}
	if links < 15 {
		t.Errorf("%d links in all", links)
	}
}

// Every JSON block of the documents is JSON: one value, or one on each line.
func TestJSONInDocuments(t *testing.T) {
	blocks := 0
	for name, text := range documents(t) {
		for _, m := range jsonBlock.FindAllStringSubmatch(text, -1) {
			blocks++
			for d := json.NewDecoder(strings.NewReader(m[1])); d.More(); {
				var v any
				if err := d.Decode(&v); err != nil {
					t.Errorf("%s: %v in\n%s", name, err, m[1])
					break
				}
			}
		}
	}
	if blocks < 6 {
		t.Errorf("%d blocks of JSON in all", blocks)
	}
}

// The README names every command and has at most 150 lines.
func TestReadmeNamesTheCommands(t *testing.T) {
	text := documents(t)["README.md"]
	for _, c := range newRoot().Commands() {
		if !regexp.MustCompile(`(?m)\bfieldpost ` + regexp.QuoteMeta(c.Name()) + `\b`).MatchString(text) {
			t.Errorf("the README does not name %q", c.CommandPath())
		}
	}
	if n := strings.Count(text, "\n"); n > 150 {
		t.Errorf("the README has %d lines, want 150 at most; the rooms' READMEs have the depth", n)
	}
}

// deploy/demo.svg is made from testdata/demo.picture, which is shortened output of `make
// demo`, by `make docs`.
func TestDocsPictureOfTheDemo(t *testing.T) {
	source, err := os.ReadFile("testdata/demo.picture")
	if err != nil {
		t.Fatal(err)
	}
	goldentest.File(t, filepath.Join(root, "deploy/demo.svg"), picture(string(source)))
}

// picture draws the text of a terminal as SVG.
func picture(text string) []byte {
	const high, wide, margin = 19, 8.2, 16
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	longest := 0
	for _, l := range lines {
		longest = max(longest, len(l))
	}
	w, h := float64(longest)*wide+2*margin, len(lines)*high+2*margin
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%d\" viewBox=\"0 0 %.0f %d\">\n", w, h, w, h)
	fmt.Fprintf(&b, "<rect width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"#16211b\"/>\n")
	fmt.Fprintf(&b, "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"13.5\">\n")
	for i, l := range lines {
		if l != "" {
			fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", margin, margin+14+i*high, colour(l), html.EscapeString(strings.ReplaceAll(l, " ", "\u00a0"))) // browsers keep these apart
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.Bytes()
}

// colour returns the colour of a line by its kind.
func colour(line string) string {
	for word, c := range map[string]string{"  order ": "#f2c14e", "  answer ": "#f2c14e", "  reading ": "#9be0ae", "  edge ": "#9be0ae", "  event ": "#8fc7f0"} {
		if strings.Contains(line, word) {
			return c
		}
	}
	return "#dfe8e2"
}

// configs/README.md has all commands.
func TestDocsCommands(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| command | what it does |\n|---|---|\n")
	var list func(c *cobra.Command)
	list = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			if sub.Runnable() {
				fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimSuffix(strings.ReplaceAll(sub.UseLine(), "|", "\\|"), " [flags]"), sub.Short)
			}
			list(sub)
		}
	}
	list(newRoot())
	goldentest.Section(t, filepath.Join(root, "configs/README.md"), "commands", b.String()+"\n")
}

// roff writes a text for a manual page: backslashes, dashes and quotes are no commands.
var roff = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "", "'", `\(aq`, "*", "")

// deploy/man/fieldpost-reference.7 has the faults, the reasons and the metrics.
func TestDocsManOfTheReference(t *testing.T) {
	var b strings.Builder
	b.WriteString(`.\" Made by "make docs".
.TH FIELDPOST\-REFERENCE 7 "" fieldpost fieldpost
.SH NAME
fieldpost\-reference \- faults, reasons and metrics of fieldpost
.SH FAULTS
A fault has a code, which the journal (FIELDPOST_CODE=), fieldpost status and fault messages show. A person must act on
those that are errors. fieldpost keeps trying on warnings.
`)
	for _, f := range health.Faults {
		fmt.Fprintf(&b, ".TP\n.B %s\n(%s) %s\n%s\n", roff.Replace(string(f.Code)), f.Severity, roff.Replace(f.Meaning), roff.Replace(f.Cure))
	}
	b.WriteString(".SH REASONS\nThe reason of an answer says why an order was not carried out.\n")
	for _, r := range command.Reasons {
		fmt.Fprintf(&b, ".TP\n.B %s\n(%s) %s\n%s\n", roff.Replace(string(r.Code)), r.Status, roff.Replace(r.Means), roff.Replace(r.Do))
	}
	b.WriteString(".SH METRICS\n/metrics on the socket, and at the address local.metrics, has these in the text format of Prometheus.\n")
	for _, m := range metrics.Metrics {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "{" + strings.Join(m.Labels, ", ") + "}"
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s: %s\n", roff.Replace(m.Name+labels), m.Kind, roff.Replace(m.Help))
	}
	b.WriteString(".SH \"SEE ALSO\"\n.BR fieldpost (1),\n.BR fieldpost.yaml (5)\n")
	goldentest.File(t, filepath.Join(root, "deploy/man/fieldpost-reference.7"), []byte(b.String()))
}

// The manual pages that `make docs` writes are what man(1) takes.
func TestManualPages(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("no groff here: the manual pages were not given to it")
		return
	}
	for _, page := range []string{"fieldpost.yaml.5", "fieldpost-reference.7"} {
		out, err := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z", filepath.Join(root, "deploy/man", page)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %.500s", page, err, out)
		}
	}
}
