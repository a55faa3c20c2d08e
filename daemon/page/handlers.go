package page

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/local"
)

// orderLife is how long an order of the page is valid.
const orderLife = 30 * time.Second

// policy is what a browser may load: files from here, and nothing inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handlers returns the paths of the page.
func (s *Server) handlers() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /", s.serveAsset)
	m.HandleFunc("GET /session", s.getSession)
	m.HandleFunc("POST /session", s.postSession)
	m.HandleFunc("DELETE /session", s.deleteSession)
	m.HandleFunc("GET /events", s.withLook(s.getEvents))
	m.HandleFunc("GET /state", s.withLook(s.getState))
	m.HandleFunc("GET /history", s.withLook(s.getHistory))
	m.HandleFunc("POST /order", s.postOrder)
	if s.o.Console != nil {
		m.HandleFunc("GET /mqtt", s.withLook(s.getMQTT))
		m.HandleFunc("POST /mqtt", s.postMQTT)
	}
	return m
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		refuse(w, http.StatusServiceUnavailable, "the daemon is stopping")
		return
	}
	defer s.running.Done()
	s.places.use(s.seatOf(r))
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("a request to the page failed; nothing else did", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			refuse(w, http.StatusInternalServerError, "this request failed; the journal says why")
		}
	}()
	// An answer that nobody reads ends; a stream sets its own.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience)) // where it fails, so does the writing
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if !local.IsOurHost(r.Host, s.o.Address, s.o.Hosts) {
		refuse(w, http.StatusMisdirectedRequest, "this page is not served under that name; list it in local.hosts")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !sameOrigin(r) {
		refuse(w, http.StatusForbidden, "this request comes from another page, or a proxy does not pass the Host header on")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.routes.ServeHTTP(w, r)
}

// sameOrigin reports whether a request was made by the page itself. Browsers say where a
// request that may change something comes from (Fetch Standard, sections 3.1 and 4.5). One that
// says nothing is no browser's, and has no cookie that the user did not give it.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// withLook lets those pass that may look.
func (s *Server) withLook(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.loopback && !s.hasSession(r) {
			refuse(w, http.StatusUnauthorized, "show the token first")
			return
		}
		next(w, r)
	}
}

// session is what a browser may do.
type session struct {
	Look  bool `json:"look"`
	Order bool `json:"order"`
	// Token says that showing the token would allow more.
	Token bool   `json:"token"`
	Key   string `json:"key,omitempty"` // to be sent with orders; only when the token was shown
	Why   string `json:"why,omitempty"` // orders are not possible, if they are not
}

func (s *Server) sessionOf(r *http.Request) session {
	may := s.mayOrder(r)
	a := session{Look: s.loopback || s.hasSession(r), Order: may, Token: !may && s.o.Token != nil}
	if s.o.Token == nil {
		a.Why = errNoToken.Error()
	}
	return a
}

func (s *Server) getSession(w http.ResponseWriter, r *http.Request) { answer(w, s.sessionOf(r)) }

// postSession gives a cookie for the token.
func (s *Server) postSession(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
		Name  string `json:"name"` // who it is, for the cause of orders; may be empty
	}
	if !arguments(w, r, &body) {
		return
	}
	name := strings.TrimSpace(body.Name)
	if err := checkName(name); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	token, err := s.token()
	switch {
	case err != nil:
		refuse(w, http.StatusForbidden, err.Error())
		return
	case !sameToken(strings.TrimSpace(body.Token), token):
		s.wrongToken(r.RemoteAddr)
		refuse(w, http.StatusForbidden, "that is not the token")
		return
	}
	c := newSession(token, name, s.o.Now())
	http.SetCookie(w, c)
	answer(w, session{Look: true, Order: true, Key: keyOf(token, c.Value)})
}

// wrongToken logs that a wrong token was shown, once a minute at most: who guesses fills no log.
func (s *Server) wrongToken(from string) {
	s.mu.Lock()
	s.wrong++
	times, now := s.wrong, time.Now()
	loud := s.warned.IsZero() || now.Sub(s.warned) >= time.Minute
	if loud {
		s.wrong, s.warned = 0, now
	}
	s.mu.Unlock()
	if loud {
		s.o.Log.Warn("somebody showed the page a wrong token", "from", from, "times", times)
	}
}

func (s *Server) deleteSession(w http.ResponseWriter, _ *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	answer(w, struct{}{})
}

// stateNow returns the state as JSON, a new one once a second at most, however many look.
func (s *Server) stateNow() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.state == nil || now.Sub(s.made) >= every/2 {
		b, err := json.Marshal(s.o.State())
		if err != nil {
			return nil, err
		}
		s.made, s.state = now, b
	}
	return s.state, nil
}

func (s *Server) getState(w http.ResponseWriter, _ *http.Request) {
	b, err := s.stateNow()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	answer(w, json.RawMessage(b))
}

// beginEvents begins a stream of events. Whoever passes it on sends each event at once: nginx would
// wait until it has some kilobytes.
func beginEvents(w http.ResponseWriter) *http.ResponseController {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	return http.NewResponseController(w)
}

// getEvents sends the state each second until the browser goes. One that does not read is
// given up.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	known := s.hasSession(r)
	here := s.seatOf(r)
	if !s.places.enterStream(here) {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too many pages are open")
		return
	}
	defer s.places.leaveStream(here)
	out := beginEvents(w)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		b, err := s.stateNow()
		if err != nil {
			return
		}
		_ = out.SetWriteDeadline(time.Now().Add(patience)) // where it fails, so does the writing
		if _, err := io.WriteString(w, "data: "+string(b)+"\n\n"); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		if known && !s.hasSession(r) {
			return // another token, or its time is over
		}
	}
}

// getHistory answers with past readings.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, "the query is malformed: "+err.Error())
		return
	}
	plain := map[string]string{}
	for k, v := range values {
		if len(v) != 1 {
			refuse(w, http.StatusBadRequest, "a key is in the query twice")
			return
		}
		plain[k] = v[0]
	}
	query, err := json.Marshal(plain)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	found, err := s.o.History(query)
	if err != nil {
		refuseWith(w, err)
		return
	}
	answer(w, found)
}

// postOrder carries out an order.
func (s *Server) postOrder(w http.ResponseWriter, r *http.Request) {
	if !s.mayOrder(r) {
		refuse(w, http.StatusUnauthorized, "show the token first")
		return
	}
	var o struct {
		ID     string   `json:"id"` // the page's: an order that is sent twice acts once
		Output string   `json:"output"`
		Action string   `json:"action"`
		Level  *float64 `json:"level"`
		For    string   `json:"for"`
	}
	if !arguments(w, r, &o) {
		return
	}
	from := "an unknown address"
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from = at.Addr().Unmap().String()
	}
	if name := nameOf(r); name != "" {
		from += " (" + name + ")"
	}
	order := api.Order{ID: cmp.Or(o.ID, "page-"+strings.ToLower(rand.Text()[:12])), Output: o.Output, Action: o.Action, Level: o.Level, For: o.For, Expires: s.o.Now().Add(orderLife).UTC()}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * time.Minute)) // where it fails, so does the writing
	got, err := s.o.Order(s.ctx, order, "page from "+from)
	if err != nil {
		refuseWith(w, err)
		return
	}
	answer(w, got)
}

// arguments reads the JSON of a request, or refuses it.
func arguments(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "want a body of the type application/json")
		return false
	}
	b, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	var late net.Error
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, "the body is larger than 4 KB")
		return false
	case errors.As(err, &late) && late.Timeout():
		refuse(w, http.StatusRequestTimeout, "the request did not come in time")
		return false
	case err != nil:
		refuse(w, http.StatusBadRequest, "the body could not be read")
		return false
	}
	if err := local.Arguments(b, into); err != nil {
		refuseWith(w, err)
		return false
	}
	return true
}

// answer sends JSON.
func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // where it fails, nobody reads it
}

// refuse says why a request is not answered.
func refuse(w http.ResponseWriter, status int, why string) {
	refuseError(w, status, &api.Error{Text: why})
}

// refuseWith does so for an error of the daemon.
func refuseWith(w http.ResponseWriter, err error) {
	var known *api.Error
	if !errors.As(err, &known) {
		known = &api.Error{Code: api.Internal, Text: err.Error()}
	}
	refuseError(w, api.HTTPStatus(known.Code), known)
}

func refuseError(w http.ResponseWriter, status int, e *api.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	b, err := json.Marshal(api.ErrorAnswer{Error: e})
	if err == nil {
		_, _ = w.Write(b) // where it fails, nobody reads it
	}
}
