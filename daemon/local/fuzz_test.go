package local

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"fieldpost/daemon/api"
)

// Whatever is sent, what comes back is a whole answer: of ours, with an error
// that has a code where it is not 200, or the line of text of net/http; and the
// server ends as if nothing had been.
func FuzzRequest(f *testing.F) {
	for _, said := range []string{
		request("echo", `{"a":1}`), request("sing", ""), "GET /v1/plain HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01", "{\"v\":1,\"call\":\"status\"}\n",
		"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "GET /v1/plain HTTP/1.0\n\n", "GET http://x/v1/plain HTTP/1.1\r\nHost: y\r\nExpect: 100-continue\r\n\r\n",
	} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		synctest.Test(t, func(t *testing.T) {
			h, d := startServer(t, someCalls)
			c := d.connect()
			go func() { _, _ = c.Write(said) }()
			b, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(said, []byte("HEAD")) {
				b = nil // the answer to that is not all there
			}
			for r := bufio.NewReader(bytes.NewReader(b)); ; {
				if _, err := r.Peek(1); err != nil {
					break
				}
				a, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("said %q, heard %q: %v", said, b, err)
				}
				body, err := io.ReadAll(a.Body)
				if err != nil {
					t.Fatalf("said %q, heard %q: %v", said, b, err)
				}
				var failed api.ErrorAnswer
				if a.Header.Get("Content-Type") == "application/json" && len(body) > 0 && a.StatusCode != http.StatusOK &&
					(json.Unmarshal(body, &failed) != nil || failed.Error == nil || failed.Error.Code == "") {
					t.Errorf("said %q, heard %q", said, body)
				}
			}
			h.end()
		})
	})
}
