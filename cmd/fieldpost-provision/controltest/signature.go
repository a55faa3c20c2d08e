package controltest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a request's time may be from the server's. AWS allows five minutes.
const maxSkew = 5 * time.Minute

// verify checks the signature of a request with AWS Signature Version 4, as the IAM User Guide
// describes it in "Create a signed AWS API request". It returns the service that the request
// was signed for, and leaves the body to be read again.
func (s *Server) verify(r *http.Request) (service string, fail *Error) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != "AWS4-HMAC-SHA256" {
		return "", &Error{"MissingAuthenticationTokenException", http.StatusForbidden, "Missing Authentication Token"}
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return "", &Error{"IncompleteSignatureException", http.StatusForbidden, "Credential must have 5 slash-delimited elements"}
	}
	if scope[0] != AccessKey {
		return scope[3], &Error{"UnrecognizedClientException", http.StatusForbidden, "The security token included in the request is invalid."}
	}
	invalid := func(format string, args ...any) *Error {
		return &Error{"InvalidSignatureException", http.StatusForbidden, fmt.Sprintf(format, args...)}
	}
	if scope[2] != s.Region {
		return scope[3], invalid("Credential should be scoped to a valid region.")
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || stamp[:8] != scope[1] {
		return scope[3], invalid("Date %q is not that of the credential", stamp)
	}
	if skew := s.Now().Sub(at); skew > maxSkew || skew < -maxSkew {
		return scope[3], invalid("Signature expired: %s is not within 5 minutes of %s", stamp, s.Now().UTC().Format("20060102T150405Z"))
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return scope[3], invalid("read body: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	canonical, fail := canonicalRequest(r, strings.Split(fields["SignedHeaders"], ";"), body)
	if fail != nil {
		return scope[3], fail
	}
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, strings.Join(scope[1:], "/"), hash([]byte(canonical))}, "\n")
	key := []byte("AWS4" + SecretKey)
	for _, part := range scope[1:] {
		key = mac(key, part)
	}
	if got, _ := hex.DecodeString(fields["Signature"]); !hmac.Equal(got, mac(key, toSign)) {
		return scope[3], invalid("The request signature we calculated does not match the signature you provided.")
	}
	return scope[3], nil
}

// canonicalRequest is a request in the form that is signed.
func canonicalRequest(r *http.Request, signed []string, body []byte) (string, *Error) {
	if !slices.Contains(signed, "host") || !slices.Contains(signed, "x-amz-date") || !slices.IsSorted(signed) {
		return "", &Error{"InvalidSignatureException", http.StatusForbidden, "'host' and 'x-amz-date' must be signed, in order"}
	}
	// Whatever changes what is done must be signed too.
	if r.Header.Get("X-Amzn-Principal") != "" && !slices.Contains(signed, "x-amzn-principal") {
		return "", &Error{"InvalidSignatureException", http.StatusForbidden, "'x-amzn-principal' must be signed"}
	}
	raw, query, _ := strings.Cut(r.RequestURI, "?")
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch {
		case name == "host":
			value = r.Host
		case name == "content-length" && value == "":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.Join(strings.Fields(value), " "))
	}
	var pairs []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, requote(name)+"="+requote(value))
	}
	slices.Sort(pairs)
	return strings.Join([]string{
		r.Method,
		quote(raw, true), // once more than in the request: only S3 does not
		strings.Join(pairs, "&"),
		headers.String(),
		strings.Join(signed, ";"),
		hash(body),
	}, "\n"), nil
}

// quote encodes as RFC 3986 says, with upper-case digits.
func quote(text string, slashes bool) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 || c == '/' && slashes {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// requote decodes a part of a query and encodes it again.
func requote(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		plain = text
	}
	return quote(plain, false)
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
