package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed assets
var embedded embed.FS

// types are the content types of the assets.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

// asset is a file of the page.
type asset struct {
	mime   string
	etag   string
	packed []byte // by gzip
}

// assets returns the files of the page by their paths. They are compressed when they are
// needed first, and then kept.
var assets = sync.OnceValue(func() map[string]asset {
	all := map[string]asset{}
	dir, err := embedded.ReadDir("assets")
	if err != nil {
		panic(err) // the directory is in the program
	}
	for _, f := range dir {
		data, err := embedded.ReadFile("assets/" + f.Name())
		if err != nil {
			panic(err) // so is the file
		}
		sum := sha256.Sum256(data)
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(data) // a buffer takes everything
		_ = z.Close()
		name := "/" + f.Name()
		if name == "/index.html" {
			name = "/"
		}
		all[name] = asset{types[path.Ext(f.Name())], `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, packed.Bytes()}
	}
	return all
})

// serveAsset answers with a file. A browser that has it already is told so.
func (s *Server) serveAsset(w http.ResponseWriter, r *http.Request) {
	f, ok := assets()[r.URL.Path]
	if !ok {
		refuse(w, http.StatusNotFound, "there is no such path")
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.mime)
	h.Set("Cache-Control", "no-cache") // asks each time whether it has changed
	h.Set("ETag", f.etag)
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		z, err := gzip.NewReader(bytes.NewReader(f.packed))
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		var plain bytes.Buffer
		if _, err := plain.ReadFrom(z); err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		_, _ = w.Write(plain.Bytes()) // where it fails, nobody reads it
		return
	}
	h.Set("Content-Encoding", "gzip")
	_, _ = w.Write(f.packed) // likewise
}
