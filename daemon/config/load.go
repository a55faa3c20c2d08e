package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile is the largest file that is read, in bytes. It holds some thousands
// of sensors; anything larger is another file.
const maxFile = 1 << 20

// Load reads the configuration file at path. The error is [Errors]: all
// problems at once.
func Load(path string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, Errors{{File: path, Reason: plainly(err), Err: err}}
	}
	return Parse(path, data)
}

// Parse reads a configuration from data. file is its path, for messages and
// because relative paths in it are taken from the file's directory. The error
// is [Errors].
func Parse(file string, data []byte) (*Config, error) {
	l := &loader{file: file, nodes: map[string]*yaml.Node{}, refused: map[string]bool{}}
	c := l.parse(data)
	if len(l.errs) > 0 {
		l.errs.sort()
		return nil, l.errs
	}
	return c, nil
}

// loader is one reading of one file.
type loader struct {
	file    string
	nodes   map[string]*yaml.Node // what was given, by path: "sensors[2].address"
	refused map[string]bool       // the paths of errs
	errs    Errors
}

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
	return &c
}

// document gives the root of the file's one document, or says why there is
// none.
func (l *loader) document(data []byte) *yaml.Node {
	if len(data) > maxFile {
		l.failLine(1, fmt.Sprintf("is larger than %s; this cannot be a configuration of fieldpost", size(maxFile)))
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

// firstInvalid gives the line of the first byte that is not UTF-8, or 0.
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

// documents parses data as YAML. Aliases are not followed, so a file of
// aliases to aliases costs no more than its size.
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

// read gives the file's bytes, one more than maxFile at most.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errDirectory
	}
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

var (
	errDirectory = errors.New("is a directory; want a file")
	errSpecial   = errors.New("is not a regular file")
)

// plainly says in a person's words why a file cannot be read.
func plainly(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not read it"
	}
	return err.Error()
}

// absolute gives a path of the file as seen from anywhere.
func (l *loader) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	abs, err := filepath.Abs(filepath.Join(filepath.Dir(l.file), path))
	if err != nil { // the working directory is gone; the path still holds from there
		return filepath.Join(filepath.Dir(l.file), path)
	}
	return abs
}
