package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/regular"
)

// Template is a provisioning template of AWS IoT (AWS IoT Core Developer Guide,
// "Provisioning templates"), as far as the broker acts on it: its parameters, the name of
// the thing, a policy that is written out in it, and the device configuration.
type Template struct {
	Name string // as it stands in the topic

	parameters map[string]parameter
	thing      json.RawMessage // an expression; nil: the template makes no thing
	policy     *awsiot.Policy  // nil: the broker's own holds for its certificates
	device     map[string]string
}

// parameter is what a template says of a parameter.
type parameter struct {
	Type    string
	Default *string
}

// certificateID is the parameter that AWS fills in.
const certificateID = "AWS::IoT::Certificate::Id"

var templateNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9A-Za-z_-]{1,36}$`) })

// largestTemplate is the most that AWS IoT takes of a template's body, in bytes.
const largestTemplate = 10240

// ReadTemplate reads the template of that name from the JSON file at path.
func ReadTemplate(name, path string) (*Template, error) {
	text, err := regular.Read(path, largestTemplate)
	if err != nil {
		return nil, fmt.Errorf("read template %q: %w", name, err)
	}
	t, err := ParseTemplate(name, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// ParseTemplate reads a template. The error says what is wrong in it, and on which line
// where it is not JSON.
func ParseTemplate(name string, text []byte) (*Template, error) {
	if !templateNames().MatchString(name) {
		return nil, fmt.Errorf("template name %q: want 1 to 36 of the characters A-Z a-z 0-9 _ -", name)
	}
	var body struct {
		Parameters map[string]parameter
		Resources  map[string]struct {
			Type       string
			Properties map[string]json.RawMessage
		}
		DeviceConfiguration map[string]string
		Mappings            json.RawMessage
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("template %q: %w", name, atLine(text, err))
	}
	t := &Template{Name: name, parameters: body.Parameters, device: body.DeviceConfiguration}
	certificate := false
	for _, key := range slices.Sorted(maps.Keys(body.Resources)) {
		r := body.Resources[key]
		switch r.Type {
		case "AWS::IoT::Thing":
			t.thing = r.Properties["ThingName"]
		case "AWS::IoT::Certificate":
			certificate = true
		case "AWS::IoT::Policy":
			p, err := policyIn(r.Properties["PolicyDocument"])
			if err != nil {
				return nil, fmt.Errorf("template %q: Resources.%s.Properties.PolicyDocument: %w", name, key, err)
			}
			t.policy = p
		default:
			return nil, fmt.Errorf("template %q: Resources.%s.Type: want AWS::IoT::Thing, AWS::IoT::Certificate or AWS::IoT::Policy (got %q)", name, key, r.Type)
		}
	}
	if !certificate {
		return nil, fmt.Errorf("template %q: Resources has no AWS::IoT::Certificate, so nothing would be activated", name)
	}
	if t.thing != nil {
		everything := map[string]string{certificateID: "x"}
		for p := range t.parameters {
			everything[p] = "x"
		}
		if _, err := value(t.thing, everything); err != nil {
			return nil, fmt.Errorf("template %q: ThingName: %w", name, err)
		}
	}
	return t, nil
}

// policyIn reads a policy that is written out in a template, as an object or as a string.
// nil is one that is only named: the broker does not know it.
func policyIn(text json.RawMessage) (*awsiot.Policy, error) {
	if text == nil {
		return nil, nil
	}
	var written string
	if json.Unmarshal(text, &written) == nil {
		text = []byte(written)
	}
	return awsiot.Parse(text)
}

// atLine adds the line of an error of encoding/json.
func atLine(text []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(text)) {
		return err
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(text[:offset], []byte("\n")), err)
}

// fill checks a request's parameters and completes them with the defaults.
func (t *Template) fill(given map[string]string, id string) (map[string]string, error) {
	all := map[string]string{}
	var missing []string
	for name, p := range t.parameters {
		v, ok := given[name]
		switch {
		case ok:
			all[name] = v
		case p.Default != nil:
			all[name] = *p.Default
		case name != certificateID:
			missing = append(missing, name)
		}
	}
	if slices.Sort(missing); missing != nil {
		return nil, fmt.Errorf("these parameters are missing: %s", strings.Join(missing, ", "))
	}
	all[certificateID] = id
	return all, nil
}

// thingName gives the name of the thing that the template makes; "" is none.
func (t *Template) thingName(parameters map[string]string) (string, error) {
	if t.thing == nil {
		return "", nil
	}
	return value(t.thing, parameters)
}

// value evaluates a string, {"Ref": "P"}, {"Fn::Join": [D, [..]]} or {"Fn::Sub": "..${P}.."}.
func value(text json.RawMessage, parameters map[string]string) (string, error) {
	var plain string
	if json.Unmarshal(text, &plain) == nil {
		return plain, nil
	}
	var call map[string]json.RawMessage
	if err := json.Unmarshal(text, &call); err != nil || len(call) != 1 {
		return "", fmt.Errorf("want a string, Ref, Fn::Join or Fn::Sub (got %s)", text)
	}
	for function, argument := range call {
		switch function {
		case "Ref":
			return reference(argument, parameters)
		case "Fn::Join":
			return joined(argument, parameters)
		case "Fn::Sub":
			return substituted(argument, parameters)
		}
		return "", fmt.Errorf("want Ref, Fn::Join or Fn::Sub (got %q)", function)
	}
	return "", nil
}

func reference(argument json.RawMessage, parameters map[string]string) (string, error) {
	var name string
	if err := json.Unmarshal(argument, &name); err != nil {
		return "", fmt.Errorf("%s: want the name of a parameter (got %s)", "Ref", argument)
	}
	v, ok := parameters[name]
	if !ok {
		return "", fmt.Errorf("%s: %q is none of the Parameters", "Ref", name)
	}
	return v, nil
}

func joined(argument json.RawMessage, parameters map[string]string) (string, error) {
	var parts []json.RawMessage
	var between string
	var items []json.RawMessage
	if json.Unmarshal(argument, &parts) != nil || len(parts) != 2 || json.Unmarshal(parts[0], &between) != nil || json.Unmarshal(parts[1], &items) != nil {
		return "", fmt.Errorf("Fn::Join: want a delimiter and a list (got %s)", argument)
	}
	var all []string
	for _, item := range items {
		v, err := value(item, parameters)
		if err != nil {
			return "", err
		}
		all = append(all, v)
	}
	return strings.Join(all, between), nil
}

var variable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{([^}]*)\}`) })

func substituted(argument json.RawMessage, parameters map[string]string) (out string, err error) {
	var text string
	if json.Unmarshal(argument, &text) != nil {
		return "", fmt.Errorf("Fn::Sub: want a string (got %s)", argument)
	}
	out = variable().ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		v, ok := parameters[name]
		if !ok {
			err = fmt.Errorf("Fn::Sub: %q is none of the Parameters", name)
		}
		return v
	})
	return out, err
}
