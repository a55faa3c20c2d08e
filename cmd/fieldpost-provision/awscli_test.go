package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// awsClients are all programs aws on the PATH: distributions have version 2, others version 1
// as well. Without one the test is skipped, unless the environment requires it.
func awsClients(t *testing.T) (all map[string]string) {
	t.Helper()
	all = map[string]string{}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path, err := exec.LookPath(filepath.Join(dir, "aws"))
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").CombinedOutput()
		if v := string(out); err != nil || !strings.HasPrefix(v, "aws-cli/") {
			continue // such as a shim without its program
		}
		if v, _, _ := strings.Cut(string(out), " "); all[v] == "" {
			all[v] = path
		}
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		clear(all)
	}
	if len(all) == 0 {
		if os.Getenv("FIELDPOST_REQUIRE_AWSCLI") != "" {
			t.Fatal("there is no aws or no openssl here, and FIELDPOST_REQUIRE_AWSCLI is set")
		}
		t.Skip("there is no aws or no openssl here: apt-get install awscli openssl")
	}
	return all
}

// sh runs a script with this aws first on the PATH.
func (s *site) sh(aws, script string) (string, error) {
	bin := s.t.TempDir()
	must(s.t, os.Symlink(aws, filepath.Join(bin, "aws")))
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Stdin = s.dir, strings.NewReader(script)
	cmd.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// The printed commands, run with the real AWS CLI and OpenSSL, do what the program does: the
// program then finds all as it wants it, and the printed undo removes what the program made.
func TestPrintedCommands(t *testing.T) {
	for version, aws := range awsClients(t) {
		t.Run(version, func(t *testing.T) {
			s := newSite(t)
			script := s.ok("--print", "--account", "123456789012", "--attribute", "site=north")
			if !s.Empty() || len(s.Calls) > 0 || s.read("certs/private.pem.key") != "" {
				t.Fatal("--print has done something")
			}
			out, err := s.sh(aws, script)
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, script, out)
			}
			if !strings.HasSuffix(out, "\n"+s.Endpoint()+"\n") {
				t.Errorf("printed\n%s", out)
			}
			s.complete()
			if site := s.Things["thing-greenhouse"].Attributes["site"]; site != "north" {
				t.Errorf("attribute %q", site)
			}
			found := s.ok("--attribute", "site=north")
			if strings.Contains(found, "made ") {
				t.Errorf("the program makes what the commands did not:\n%s", found)
			}
			if out, err := s.sh(aws, script); err == nil || !strings.Contains(out, "certificate.pem.crt exists") {
				t.Errorf("a second time: %v\n%s", err, out)
			}
		})
	}
}

// The printed undo removes what the program has made.
func TestPrintedUndo(t *testing.T) {
	clients := awsClients(t)
	newest := slices.Max(slices.Collect(maps.Keys(clients))) // the others are slow, and tried above
	s := newSite(t)
	s.ok()
	s.configure(strings.Replace(configuration, "test/orders", "test/other", 1))
	s.ok() // a second version of the policy
	s.configure(configuration)
	script := s.ok("--print", "--undo")
	s.complete()
	if out, err := s.sh(clients[newest], script); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	s.gone()
}

// What a name or path holds cannot become a command of its own.
func TestPrintedCommandsAreQuoted(t *testing.T) {
	s := newSite(t)
	text := strings.Replace(configuration, "broker:\n", "broker:\n  key: \"a b/$(touch evil)/'; touch evil; '.key\"\n  certificate: \"a b/`touch evil`.crt\"\n", 1)
	s.configure(text)
	named := s.path("a\ntouch evil\n'.yaml") // in a comment
	must(t, os.WriteFile(named, []byte(text), 0o600))
	script := s.ok("--print", "--account", "123456789012", "--attribute", "a=b", "--endpoint-url", s.URL+"/?'$(touch evil)", "-c", named)
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "touch evil") {
			t.Errorf("a line of its own in\n%s", script)
		}
	}
	bin := t.TempDir()
	for _, name := range []string{"aws", "openssl"} {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\"\n"), 0o700))
	}
	out, err := s.sh(filepath.Join(bin, "aws"), "PATH="+bin+":$PATH\n"+script)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	err = filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if d.Name() == "evil" {
			t.Errorf("%s was made by\n%s", path, script)
		}
		return err
	})
	must(t, err)
	if !strings.Contains(out, "/?'$(touch evil)\n") || len(s.Calls) > 0 {
		t.Errorf("printed\n%s", out)
	}
}
