package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"unicode/utf8"

	"fieldpost/daemon/regular"

	"gopkg.in/yaml.v3"
)

// maxFile is the largest file that is read, in bytes: 500 for each possible sensor. The YAML
// parser may need some 250 bytes of memory for each byte, and the daemon must stay small.
const maxFile = 128 << 10

// Load reads the configuration file at path, a regular file or a link to one. The error is
// [Errors].
func Load(path string) (*Config, error) { return load(path, true) }

// LoadWithoutFiles is like [Load], but the files that the configuration names need not exist.
// If this machine has no serial number, {serial} becomes "SERIAL".
func LoadWithoutFiles(path string) (*Config, error) { return load(path, false) }

func load(path string, files bool) (*Config, error) {
	data, err := regular.Read(path, maxFile)
	if err != nil {
		return nil, Errors{{File: path, Reason: plainly(err), Err: err}}
	}
	return parse(path, data, files)
}

// Parse reads a configuration from data. file is its path, for error messages and for the
// relative paths in it. The error is [Errors].
func Parse(file string, data []byte) (*Config, error) { return parse(file, data, true) }

func parse(file string, data []byte, files bool) (*Config, error) {
	l := newLoader(file, files)
	c := l.parse(data)
	if len(l.errs) > 0 {
		return nil, l.reported()
	}
	return c, nil
}

// loader reads one file.
type loader struct {
	problemList
	nodes map[string]*yaml.Node // what was given, by path: "sensors[2].address"

	lookAtFiles bool            // whether to check that the named files exist
	unneeded    map[string]bool // the paths of files that need not exist
}

// newLoader returns a loader of the file at this path. files says whether the files that it
// names must exist.
func newLoader(file string, files bool) *loader {
	return &loader{problemList: problemList{file: file, refused: map[string]bool{}}, nodes: map[string]*yaml.Node{}, lookAtFiles: files}
}

// parse reads and checks a configuration. Problems are in errs.
func (l *loader) parse(data []byte) *Config {
	root := l.document(data)
	if root == nil {
		return nil
	}
	c := defaults
	c.File = l.file
	l.plain(root)
	l.value(root, "", "", reflect.ValueOf(&c).Elem())
	l.complete(&c)
	l.check(&c)
	c.lines = l.lines()
	return &c
}

// document returns the root of the only document in the file, or reports why there is none.
func (l *loader) document(data []byte) *yaml.Node {
	if len(data) > maxFile {
		l.failLine(1, tooLarge)
		return nil
	}
	if line := firstInvalid(data); line > 0 {
		l.failLine(line, "is not UTF-8 text; save the file as UTF-8")
		return nil
	}
	docs, err := documents(data)
	if err != nil {
		line := errorLine(data, err)
		l.failLine(line, syntaxReason(err, lineOf(data, line)))
		return nil
	}
	if len(docs) > 1 {
		l.failLine(docs[1].Line, "a second document starts here; a configuration is one document, without a line of ---")
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 || isNull(docs[0].Content[0]) {
		l.failLine(1, "is empty; it needs at least thing, broker.endpoint and readings.topic")
		return nil
	}
	return docs[0].Content[0]
}

// firstInvalid returns the line of the first byte that is not UTF-8, or 0.
func firstInvalid(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			return line
		}
		if r == '\n' {
			line++
		}
		data = data[n:]
	}
	return 0
}

// documents parses data as YAML. It does not expand aliases, so the memory it needs is
// bounded by the size of the file.
func documents(data []byte) (docs []*yaml.Node, err error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		n := new(yaml.Node)
		err := d.Decode(n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, n)
	}
}

// plainly returns in plain words why a file cannot be read.
func plainly(err error) string {
	var p *fs.PathError
	switch {
	case errors.Is(err, regular.ErrLarge):
		return tooLarge
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "this user is not allowed to read it"
	case errors.As(err, &p):
		return p.Err.Error()
	}
	return err.Error()
}

var tooLarge = "is larger than " + size(maxFile) + "; this cannot be a configuration of fieldpost"

// absolute makes a path in the file absolute. Relative paths are relative to the file.
func (l *loader) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	abs, err := filepath.Abs(filepath.Join(filepath.Dir(l.file), path))
	if err != nil { // the working directory is gone; the relative path still works
		return filepath.Join(filepath.Dir(l.file), path)
	}
	return abs
}
