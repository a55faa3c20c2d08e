package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fieldpost/daemon/goldentest"
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
	fmt.Fprintf(&b, "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"13.5\" xml:space=\"preserve\">\n")
	for i, l := range lines {
		if l != "" {
			fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", margin, margin+14+i*high, colour(l), html.EscapeString(l))
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
