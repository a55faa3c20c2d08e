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
	"unicode"
	"unicode/utf8"
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
	// clockSlack is how far the board's clock may be set back without ending a session. A cookie
	// that is good for longer is of a clock that was years ahead.
	clockSlack = 24 * time.Hour
	// TokenMin is the fewest characters of a token: nobody may guess it.
	TokenMin = 16
	// maxName is the most characters of a name.
	maxName = 32
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

// newSession returns the cookie of a browser that has shown the token, and of the name that its
// user has given; "" is none.
func newSession(token, name string, now time.Time) *http.Cookie {
	signed := strconv.FormatInt(now.Add(sessionLasts).Unix(), 10)
	if name != "" {
		signed += "." + base64.RawURLEncoding.EncodeToString([]byte(name))
	}
	return &http.Cookie{
		Name: cookieName, Value: signed + "." + signature(token, signed), Path: "/",
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
	at := max(strings.LastIndexByte(value, '.'), 0)
	signed, mac := value[:at], strings.TrimPrefix(value[at:], ".")
	expires, _, _ := strings.Cut(signed, ".")
	until, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || !hmac.Equal([]byte(mac), []byte(signature(token, signed))) {
		return false
	}
	left := until - s.o.Now().Unix()
	return left > 0 && left <= int64((sessionLasts+clockSlack)/time.Second)
}

// checkName refuses a name that would not look like one in a line for people and machines.
func checkName(name string) error {
	switch {
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Errorf("the name has more than %d characters", maxName)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" -_.", r)
	}):
		return errors.New("the name may have letters, digits, spaces and - _ . only")
	}
	return nil
}

// nameOf returns the name in a session's cookie; "" is none. Whoever has the token may have
// given any: it tells people apart who want to be.
func nameOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	parts := strings.Split(c.Value, ".")
	if len(parts) != 3 {
		return ""
	}
	name, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || checkName(string(name)) != nil {
		return ""
	}
	return string(name)
}

// sameToken compares in constant time.
func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
