package local

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Version is the protocol's version.
const Version = 1

// The bounds of a line.
const (
	maxRequest = 64 << 10 // bytes, with its line feed
	maxAnswer  = 4 << 20  // bytes; a status of some thousand sensors
)

// Codes of errors that are the protocol's own. A call may give others.
const (
	Malformed    = "malformed"
	TooLarge     = "too_large"
	WrongVersion = "wrong_version"
	UnknownCall  = "unknown_call"
	Busy         = "busy"
	Stopping     = "stopping"
	Internal     = "internal"
)

// Error is the answer to a call that did not succeed.
type Error struct {
	Code string `json:"code"`
	Text string `json:"text"`           // what is wrong, lower case
	Hint string `json:"hint,omitempty"` // a sentence: what to do
}

// Error gives what is wrong.
func (e *Error) Error() string { return e.Text }

// request is a decoded request.
type request struct {
	call string
	with json.RawMessage // nil where it has none
}

// answer is an answer on the wire.
type answer struct {
	Version int             `json:"v"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

// errTooLarge is the reason when a line does not end within its bound.
var errTooLarge = errors.New("line is too long")

// readLine reads up to a line feed, or to the end where there is none.
func readLine(r io.Reader, most int) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, int64(most)+1)).ReadBytes('\n')
	switch {
	case len(line) > most:
		return nil, errTooLarge
	case errors.Is(err, io.EOF) && len(line) > 0:
		return line, nil
	}
	return line, err
}

// decode reads a request strictly: one object of the known keys, each once.
func decode(line []byte) (request, *Error) {
	malformed := func(format string, args ...any) (request, *Error) {
		return request{}, &Error{Malformed, fmt.Sprintf(format, args...), `Send one line such as {"v":1,"call":"status"}.`}
	}
	if !utf8.Valid(line) {
		return malformed("request is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return malformed("request is not a JSON object")
	}
	parts := map[string]json.RawMessage{"v": nil, "call": nil, "with": nil}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return malformed("request is not JSON: %v", err)
		}
		name := key.(string) // all that can stand here, or Token fails
		if before, known := parts[name]; !known {
			return malformed("unknown key %.80q", name)
		} else if before != nil {
			return malformed("key %q stands twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return malformed("request is not JSON: %v", err)
		}
		parts[name] = value
	}
	if _, err := d.Token(); err != nil {
		return malformed("request is not JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return malformed("more than one JSON value on the line")
	}
	return assemble(parts, malformed)
}

func assemble(parts map[string]json.RawMessage, malformed func(string, ...any) (request, *Error)) (request, *Error) {
	if parts["v"] == nil {
		return malformed("no version: key %q", "v")
	}
	if v := string(parts["v"]); v != fmt.Sprint(Version) {
		return request{}, &Error{WrongVersion, fmt.Sprintf("this daemon speaks version %d of the protocol (got %.80s)", Version, v),
			"After an upgrade restart the daemon: `systemctl restart fieldpost`."}
	}
	r := request{with: parts["with"]}
	if raw := parts["call"]; raw == nil || json.Unmarshal(raw, &r.call) != nil || r.call == "" {
		return malformed("want the name of a call under %q", "call")
	}
	return r, nil
}

// Arguments reads what a call takes into v, a pointer to a struct: one object
// of the struct's keys. The error is an [*Error] for the caller.
func Arguments(with json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(with))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Error{Malformed, fmt.Sprintf("with: %v", err), "See the documentation of package local for what the call takes."}
	}
	return nil
}

// encode makes a line of an answer.
func encode(result any, failed *Error) []byte {
	a := answer{Version: Version, Error: failed}
	if failed == nil {
		raw, err := marshal(result)
		if err != nil {
			a.Error = &Error{Internal, fmt.Sprintf("encode answer: %v", err), reportIt}
		}
		a.Result = raw
	}
	line, err := marshal(a)
	if err != nil {
		panic(err) // strings and JSON that was just made always encode
	}
	return append(line, '\n')
}

// marshal is json.Marshal without the escapes that are for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

const reportIt = "This is a bug of fieldpost; please report it."
