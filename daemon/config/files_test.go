package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fieldpost/daemon/output"
)

// Every file in configs/ can be loaded where its certificates are.
func TestConfigsLoad(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in configs/: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(filepath.Dir(place(t)), filepath.Base(f))
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(file); err != nil {
				t.Error(err)
			}
		})
	}
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// Every YAML block of a README, the repository's or a room's, is a whole
// configuration and can be loaded.
func TestReadmesLoad(t *testing.T) {
	withSerial(t, "10000000abcdef01")
	files, err := filepath.Glob("../../*/README.md")
	if err != nil || len(files) < 4 {
		t.Fatalf("READMEs of rooms: %q, %v", files, err)
	}
	blocks := 0
	for _, readme := range append(files, "../../README.md") {
		text, err := os.ReadFile(readme)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range yamlBlock.FindAllSubmatchIndex(text, -1) {
			blocks++
			line := 1 + strings.Count(string(text[:at[2]]), "\n")
			if _, err := Parse(place(t), text[at[2]:at[3]]); err != nil {
				t.Errorf("block at %s:%d: %v", readme, line, err)
			}
		}
	}
	if blocks < 2 {
		t.Errorf("%d YAML blocks in all READMEs", blocks)
	}
}

// The tutorial's policy allows one topic; so its configuration uses one.
func TestTutorialUsesOneTopic(t *testing.T) {
	text, err := os.ReadFile("../../configs/tutorial.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := good(t, string(text))
	for _, topic := range []string{c.ReadingsTopic("x"), c.CommandsTopic(), c.AnswersTopic()} {
		if topic != "test/topic" {
			t.Errorf("uses %q", topic)
		}
	}
	if c.Thing != "thing-greenhouse" {
		t.Errorf("thing is %q", c.Thing)
	}
}

// The example of outputs shows every option that an output has, but those that
// others show.
func TestOutputsExample(t *testing.T) {
	text, err := os.ReadFile("../../configs/outputs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, o := range good(t, string(text)).Outputs {
		shown["min_on"] = shown["min_on"] || o.MinOn > 0
		shown["min_off"] = shown["min_off"] || o.MinOff > 0
		shown["refresh"] = shown["refresh"] || o.Refresh > 0
		shown["interlock"] = shown["interlock"] || len(o.Interlock) > 0
		shown["initial: last"] = shown["initial: last"] || o.Initial == output.InitialLast
		shown["initial: keep"] = shown["initial: keep"] || o.Initial == output.InitialKeep
		shown["safe: keep"] = shown["safe: keep"] || o.Safe == output.SafeKeep
	}
	for option, there := range shown {
		if !there {
			t.Errorf("%s is not shown", option)
		}
	}
}

// Before there are certificates the configuration can be read without them; all
// other mistakes are told.
func TestLoadWithoutFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fieldpost.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("thing: thing-1\nbroker: {endpoint: example.com}\nreadings: {topic: test/topic}\n")
	if _, err := Load(file); err == nil {
		t.Error("Load takes files that are not there")
	}
	c, err := LoadWithoutFiles(file)
	if err != nil || c.Thing != "thing-1" || c.Broker.Key != filepath.Join(filepath.Dir(file), "certs/private.pem.key") {
		t.Errorf("got %+v, %v", c, err)
	}
	write("thing: thing-1\nbroker: {endpiont: example.com}\nreadings: {topic: test/topic}\n")
	if _, err := LoadWithoutFiles(file); err == nil {
		t.Error("a mistake is taken")
	}
}
