package controltest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The example "get-vanilla" of AWS's test suite for Signature Version 4 is accepted, and nothing
// that differs from it.
func TestSignature(t *testing.T) {
	s := New(t)
	s.Region, s.Now = "us-east-1", func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) }
	const signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
	vanilla := func(target string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Host, r.RequestURI = "example.amazonaws.com", target
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		r.Header.Set("Authorization", signed)
		return r
	}
	if service, fail := s.verify(vanilla("/")); fail != nil || service != "service" {
		t.Errorf("%q, %v", service, fail)
	}
	for name, tc := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"method":       {func(r *http.Request) { r.Method = http.MethodPut }, "InvalidSignatureException"},
		"path":         {func(r *http.Request) { r.RequestURI = "/a" }, "InvalidSignatureException"},
		"query":        {func(r *http.Request) { r.RequestURI = "/?a=b" }, "InvalidSignatureException"},
		"host":         {func(r *http.Request) { r.Host = "example.com" }, "InvalidSignatureException"},
		"body":         {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) }, "InvalidSignatureException"},
		"time":         {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123601Z") }, "InvalidSignatureException"},
		"unsigned":     {func(r *http.Request) { r.Header.Set("X-Amzn-Principal", "x") }, "InvalidSignatureException"},
		"no signature": {func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException"},
		"region":       {func(*http.Request) { s.Region = "eu-west-1" }, "InvalidSignatureException"},
		"later": {func(*http.Request) {
			s.Now = func() time.Time { return time.Date(2015, 8, 30, 12, 42, 0, 0, time.UTC) }
		}, "InvalidSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			region, now := s.Region, s.Now
			defer func() { s.Region, s.Now = region, now }()
			r := vanilla("/")
			tc.change(r)
			if _, fail := s.verify(r); fail == nil || fail.Type != tc.want {
				t.Errorf("got %v", fail)
			}
		})
	}
}
