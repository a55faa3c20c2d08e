package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os/user"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/api"
)

const (
	reportIt    = "This is a bug in fieldpost; please report it."
	askThere    = "Over the network there is only /metrics. Everything else is on the unix socket, for the group fieldpost."
	seeDocument = "See /openapi.json for what the path accepts."
	restartIt   = "The paths are in /openapi.json. After an upgrade restart the daemon: `systemctl restart fieldpost`."
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

// ServeHTTP answers one request. A panic in a call is an answer. Any other panic ends the
// daemon; net/http would only log it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.others.Call("local answer", func() { s.answer(w, r) }) {
		panic(http.ErrAbortHandler)
	}
}

// answer answers one request: it finds the endpoint, reads the body and makes the call.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	s.mu.Lock()
	c.handled = true
	s.mu.Unlock()
	e, failed := s.find(w, r)
	var body []byte
	if failed == nil {
		body, failed = s.body(c, r, e)
	}
	if failed != nil {
		s.refuse(w, r, failed)
		return
	}
	result, failed := s.call(c, e, body)
	if failed != nil {
		s.reply(w, api.HTTPStatus(failed.Code), encode(api.ErrorAnswer{Error: failed}))
		return
	}
	if text, ok := result.(string); ok && e.Media != "" {
		s.send(w, http.StatusOK, e.Media, []byte(text))
		return
	}
	answer, err := marshal(result)
	if err != nil {
		s.reply(w, http.StatusInternalServerError, encode(api.ErrorAnswer{Error: &api.Error{Code: api.Internal, Text: fmt.Sprintf("encode answer: %v", err), Hint: reportIt}}))
		return
	}
	s.reply(w, http.StatusOK, append(answer, '\n'))
}

// find returns the endpoint for a request.
func (s *Server) find(w http.ResponseWriter, r *http.Request) (*Endpoint, *api.Error) {
	if !s.isOurs(r.Host) {
		return nil, &api.Error{Code: api.WrongHost, Text: fmt.Sprintf("the request is for %.80q, which is not in local.hosts", r.Host), Hint: "Add that name or address to local.hosts in the configuration."}
	}
	var methods []string
	for i, e := range s.o.Endpoints {
		switch {
		case e.Path != r.URL.Path:
		case e.Method == r.Method:
			return &s.o.Endpoints[i], nil
		default:
			methods = append(methods, e.Method)
		}
	}
	if methods == nil {
		hint := restartIt
		if s.o.Address != "" {
			hint = askThere
		}
		return nil, &api.Error{Code: api.UnknownPath, Text: fmt.Sprintf("this daemon has no path %.80q", r.URL.Path), Hint: hint}
	}
	slices.Sort(methods)
	allowed := strings.Join(methods, ", ")
	w.Header().Set("Allow", allowed)
	return nil, &api.Error{Code: api.WrongMethod, Text: fmt.Sprintf("%s does not accept %.20s", r.URL.Path, r.Method), Hint: fmt.Sprintf("Use %s.", allowed)}
}

// body reads the body of a request: one JSON value, or nothing if the endpoint allows that. An
// endpoint with a query gets that instead.
func (s *Server) body(c *conn, r *http.Request, e *Endpoint) ([]byte, *api.Error) {
	switch {
	case e.Query != nil && r.ContentLength == 0:
		return query(r.URL.RawQuery)
	case e.Request == nil && r.ContentLength != 0:
		return nil, &api.Error{Code: api.Malformed, Text: fmt.Sprintf("%s does not accept a body", e.Path), Hint: "Send none."}
	case r.ContentLength == 0 && e.Optional, e.Request == nil:
		return nil, nil
	case r.ContentLength > maxBody:
		return nil, tooLarge()
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.ContentLength != 0 && (err != nil || kind != "application/json") {
		return nil, &api.Error{Code: api.WrongType, Text: fmt.Sprintf("body is of type %.80q", r.Header.Get("Content-Type")), Hint: "Send JSON, with the header Content-Type: application/json."}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil && s.isGone(c):
		return nil, tooMany()
	case err != nil && s.ctx.Err() != nil:
		return nil, stopping()
	case err != nil:
		return nil, &api.Error{Code: api.TimedOut, Text: fmt.Sprintf("request ended early, or did not arrive within %v: %v", patience, err), Hint: "Send it without a pause."}
	case len(body) > maxBody:
		return nil, tooLarge()
	case len(body) == 0 && e.Optional: // chunked and empty
		return nil, nil
	case !utf8.Valid(body):
		return nil, &api.Error{Code: api.Malformed, Text: "body is not UTF-8", Hint: seeDocument}
	}
	var value json.RawMessage
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, &api.Error{Code: api.Malformed, Text: fmt.Sprintf("body is not one JSON value: %v", err), Hint: seeDocument}
	}
	return bytes.TrimSpace(body), nil
}

// query returns the query of a request as a JSON object of strings, in place of a body.
func query(raw string) ([]byte, *api.Error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &api.Error{Code: api.Malformed, Text: fmt.Sprintf("query: %v", err), Hint: seeDocument}
	}
	given := map[string]string{}
	for key, all := range values {
		switch {
		case !utf8.ValidString(key) || !utf8.ValidString(all[0]):
			return nil, &api.Error{Code: api.Malformed, Text: "query is not UTF-8", Hint: seeDocument}
		case len(all) > 1:
			return nil, &api.Error{Code: api.Malformed, Text: fmt.Sprintf("query: %.40q is given %d times", key, len(all)), Hint: seeDocument}
		}
		given[key] = all[0]
	}
	return encode(given), nil
}

func tooLarge() *api.Error {
	return &api.Error{Code: api.TooLarge, Text: fmt.Sprintf("body is larger than %d bytes", maxBody)}
}

func stopping() *api.Error {
	return &api.Error{Code: api.Stopping, Text: "the daemon is stopping", Hint: "Try again when it is running again."}
}

// isGone reports whether a connection was closed to make room for another.
func (s *Server) isGone(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.gone
}

// call makes the call of an endpoint.
func (s *Server) call(c *conn, e *Endpoint, body []byte) (result any, failed *api.Error) {
	own, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if !s.begin(c, e, cancel) {
		return nil, &api.Error{Code: api.Busy, Text: "too many calls are running", Hint: "Try again in a few seconds."}
	}
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("call panicked", "call", e.Name, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			result, failed = nil, &api.Error{Code: api.Internal, Text: fmt.Sprintf("call panicked: %v", p), Hint: reportIt}
		}
	}()
	from := c.from
	if s.o.Address == "" {
		from = from.named(user.LookupId)
	}
	result, err := e.Call(own, from, body)
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &failed):
		return nil, failed
	case s.ctx.Err() != nil:
		return nil, stopping()
	case own.Err() != nil:
		return nil, &api.Error{Code: api.Busy, Text: "the call was ended to make room for a later one of this user", Hint: "Try again in a few seconds."}
	}
	return nil, &api.Error{Code: api.Internal, Text: err.Error()}
}

// begin reports whether there is room for a call, and if so counts it as running.
func (s *Server) begin(c *conn, e *Endpoint, cancel context.CancelFunc) bool {
	at := calling
	if e.Urgent {
		at = urgent
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admission.callLocked(c, at, cancel)
}

// refuse answers a request that may not have arrived completely. It then reads the rest, for
// as long as a request may take: closing a socket with unread data resets the connection, and
// the answer may be lost.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, why *api.Error) {
	rest := http.NewResponseController(w)
	if err := rest.EnableFullDuplex(); err != nil {
		s.o.Log.Debug("answer before the whole request was read", "err", err)
	}
	w.Header().Set("Connection", "close")
	s.reply(w, api.HTTPStatus(why.Code), encode(api.ErrorAnswer{Error: why}))
	if err := rest.Flush(); err != nil {
		return // the client does not read the answer
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, drainMax))
}

// reply sends an answer in JSON. A client that does not read it in time loses it.
func (s *Server) reply(w http.ResponseWriter, status int, body []byte) {
	s.send(w, status, "application/json", body)
}

// send sends an answer of any media type. A client that does not read it in time loses it.
func (s *Server) send(w http.ResponseWriter, status int, media string, body []byte) {
	limit := patience
	if s.ctx.Err() != nil {
		limit = hurry
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit)) // every connection supports it
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		s.o.Log.Debug("answer was not delivered", "err", err)
	}
}

// Arguments decodes a body into v, a pointer to a struct. The body must be one object, with
// only keys that the struct has. The error is an [*api.Error] for the client.
func Arguments(body json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &api.Error{Code: api.Malformed, Text: fmt.Sprintf("body: %v", err), Hint: seeDocument}
	}
	return nil
}

// encode makes the body of an answer from a value that can always be encoded.
func encode(v any) []byte {
	b, err := marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}

// marshal is json.Marshal without escapes for HTML. A json.RawMessage is returned as it is.
func marshal(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return bytes.TrimSuffix(raw, []byte("\n")), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
