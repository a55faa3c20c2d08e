package awsiot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// version is the only version of the language in which AWS IoT replaces
// variables, and the only one accepted.
const version = "2012-10-17"

// Parse reads a policy document. An error names the statement, counted from 1,
// and its element; an error of the JSON itself names the line.
func Parse(document []byte) (*Policy, error) {
	if !utf8.Valid(document) {
		return nil, errors.New("read policy: the text is not UTF-8")
	}
	if err := wellFormed(document); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	p := &Policy{}
	seen := ""
	err := members(document, func(key string, value json.RawMessage) error {
		switch key {
		case "Version":
			return text(value, &seen)
		case "Id":
			var id string
			return text(value, &id)
		case "Statement":
			var err error
			p.statements, err = parseStatements(value)
			return err
		default:
			return errors.New("a policy has no such element")
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	if seen != version {
		return nil, fmt.Errorf("read policy: Version: want %q (got %q)", version, seen)
	}
	if len(p.statements) == 0 {
		return nil, errors.New("read policy: Statement: want at least one")
	}
	return p, nil
}

// wellFormed checks the JSON as a whole, and says on which line it is broken.
func wellFormed(document []byte) error {
	var any json.RawMessage
	err := json.Unmarshal(document, &any)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at := min(max(int(syntax.Offset), 0), len(document))
		return fmt.Errorf("line %d: %w", 1+bytes.Count(document[:at], []byte("\n")), err)
	}
	return err
}

func parseStatements(value json.RawMessage) ([]statement, error) {
	list := []json.RawMessage{value}
	if value[0] == '[' {
		list = nil
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, err
		}
	}
	var out []statement
	for i, one := range list {
		s, err := parseStatement(one)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func parseStatement(value json.RawMessage) (statement, error) {
	var s statement
	effect := ""
	err := members(value, func(key string, value json.RawMessage) error {
		var err error
		switch key {
		case "Sid":
			var sid string
			return text(value, &sid)
		case "Effect":
			return text(value, &effect)
		case "Action":
			s.actions, err = parseList(value, parseAction)
		case "Resource":
			s.resources, err = parseList(value, parseARN)
		case "Condition", "NotAction", "NotResource", "Principal", "NotPrincipal":
			err = errors.New("not supported here, so nothing can be said about this policy")
		default:
			err = errors.New("a statement has no such element")
		}
		return err
	})
	switch {
	case err != nil:
		return s, err
	case effect != "Allow" && effect != "Deny":
		return s, fmt.Errorf("key \"Effect\": want \"Allow\" or \"Deny\" (got %q)", effect)
	case s.actions == nil:
		return s, errors.New("key \"Action\" is missing")
	case s.resources == nil:
		return s, errors.New("key \"Resource\" is missing")
	}
	s.allow = effect == "Allow"
	return s, nil
}

// parseAction takes "*", or a service and a name with wildcards, "iot:Publish".
// Actions are compared in lower case.
func parseAction(s string) (pattern, error) {
	service, name, ok := strings.Cut(s, ":")
	switch {
	case strings.Contains(s, "$"):
		return nil, fmt.Errorf("an action has no variables (got %q)", s)
	case s != "*" && (!ok || service == "" || name == ""):
		return nil, fmt.Errorf("want * or service:Name (got %q)", s)
	}
	return compile(strings.ToLower(s))
}

// parseARN takes "*", or an ARN with wildcards in any part after the first.
func parseARN(s string) (arn, error) {
	parts := strings.SplitN(s, ":", 6)
	switch {
	case s == "*":
		parts = []string{"arn", "*", "*", "*", "*", "*"}
	case len(parts) != 6 || parts[0] != "arn" || parts[5] == "":
		return arn{}, fmt.Errorf("want * or arn:aws:iot:REGION:ACCOUNT:TYPE/NAME (got %q)", s)
	}
	var a arn
	for i, part := range parts[1:] {
		p, err := compile(part)
		if err != nil {
			return arn{}, fmt.Errorf("in %q: %w", s, err)
		}
		if i < len(a.head) {
			a.head[i] = p
		} else {
			a.rest = p
		}
	}
	return a, nil
}

// parseList reads a string, or a list of at least one string.
func parseList[T any](value json.RawMessage, one func(string) (T, error)) ([]T, error) {
	items := []json.RawMessage{value}
	if value[0] == '[' {
		items = nil
		if err := json.Unmarshal(value, &items); err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return nil, errors.New("the list is empty")
		}
	}
	var out []T
	for _, item := range items {
		var s string
		if err := text(item, &s); err != nil {
			return nil, err
		}
		t, err := one(s)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// text reads a string, and nothing else: encoding/json takes null for one.
func text(value json.RawMessage, s *string) error {
	if value[0] != '"' {
		return fmt.Errorf("want a string (got %s)", value)
	}
	return json.Unmarshal(value, s)
}

// members walks over an object, in order. Keys are taken as they are written,
// and one that comes twice is an error: encoding/json forgives both.
func members(object json.RawMessage, each func(key string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("want an object")
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if seen[key] {
			return fmt.Errorf("%s: comes twice", key)
		}
		seen[key] = true
		if err := each(key, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}
