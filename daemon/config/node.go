package config

import (
	"bytes"
	"errors"
	"io"

	"gopkg.in/yaml.v3"
)

// Node is a value of a YAML file with its line, for files other than the configuration, whose
// mistakes are to be named like those of the configuration.
type Node = yaml.Node

// The kinds of a [Node].
const (
	MappingNode  = yaml.MappingNode  // its Content is keys and values in turn
	SequenceNode = yaml.SequenceNode // its Content is the entries
	ScalarNode   = yaml.ScalarNode   // its Value is the text
)

// ErrSecondDocument is the error of a YAML file with more than one document.
var ErrSecondDocument = errors.New("has a second document: want one")

// ParseNode parses the only document of a YAML file. Aliases stay nodes of their own, so that a
// small file does not become a large value. The error is [io.EOF] if the file is empty,
// [ErrSecondDocument], or that of the YAML parser. Any goroutine.
func ParseNode(data []byte) (*Node, error) {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, ErrSecondDocument
	}
	return doc.Content[0], nil
}
