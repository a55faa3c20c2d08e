package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// cookieName is the cookie of a browser that has shown the token.
	cookieName = "fieldpost_session"
	// keyHeader is what an order has in addition: a cookie is sent to every port of this
	// machine, also to one that another user serves. This is kept where only this page's
	// scripts read it.
	keyHeader = "Fieldpost-Key"
	// sessionLasts is how long the cookie is good. Another token ends it before.
	sessionLasts = 30 * 24 * time.Hour
	// TokenMin is the fewest characters of a token: nobody may guess it.
	TokenMin = 16
)

var errNoToken = errors.New("this page takes no orders: local.token_file is not set")

// token returns the token that is valid now.
func (s *Server) token() (string, error) {
	if s.o.Token == nil {
		return "", errNoToken
	}
	t, err := s.o.Token()
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if len(t) < TokenMin {
		return "", fmt.Errorf("the token has %d characters; it needs %d", len(t), TokenMin)
	}
	return t, nil
}

// signature returns what makes a cookie ours. It needs the token, so that another token ends
// all sessions, and a restart of the daemon none.
func signature(token, expires string) string {
	m := hmac.New(sha256.New, []byte("fieldpost page session\n"+token))
	m.Write([]byte(expires)) // never fails
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// newSession returns the cookie of a browser that has shown the token.
func newSession(token string, now time.Time) *http.Cookie {
	expires := strconv.FormatInt(now.Add(sessionLasts).Unix(), 10)
	return &http.Cookie{
		Name: cookieName, Value: expires + "." + signature(token, expires), Path: "/",
		MaxAge: int(sessionLasts / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// keyOf returns what the page sends in keyHeader with a cookie of this value.
func keyOf(token, cookie string) string { return signature(token, "key for "+cookie) }

// mayOrder reports whether a request may order: it has a session, and the key that belongs to
// it.
func (s *Server) mayOrder(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	if err != nil || !s.hasSession(r) {
		return false
	}
	token, err := s.token()
	return err == nil && hmac.Equal([]byte(r.Header.Get(keyHeader)), []byte(keyOf(token, c.Value)))
}

// hasSession reports whether a request comes from a browser that has shown the token.
func (s *Server) hasSession(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	good := s.isSession(c.Value)
	s.places.know(s.seatOf(r), good)
	return good
}

// isSession reports whether a cookie of this value is ours, and still good.
func (s *Server) isSession(value string) bool {
	token, err := s.token()
	if err != nil {
		return false
	}
	expires, mac, _ := strings.Cut(value, ".")
	until, err := strconv.ParseInt(expires, 10, 64)
	return err == nil && hmac.Equal([]byte(mac), []byte(signature(token, expires))) && s.o.Now().Unix() < until
}

// sameToken compares in constant time.
func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
