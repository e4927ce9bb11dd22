package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// trafficAPI is a back end with the typical features of back ends of mini-programs. It
// sends the second part of each stream after a receive from release.
func trafficAPI(t *testing.T, release <-chan struct{}) (addr string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
			http.Error(w, "no upgrade", http.StatusUpgradeRequired)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-User: %s\r\n\r\n", r.Header.Get("X-Yufu-Uuid"))
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw) // an echo until the client ends it
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		fmt.Fprint(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "second\n")
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, hash.Sum(nil), err)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "file.txt", time.Time{}, strings.NewReader("0123456789"))
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "packed")
		_ = z.Close()
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "late")
	})
	mux.HandleFunc("/cookies", func(w http.ResponseWriter, r *http.Request) {
		for i := range 12 {
			http.SetCookie(w, &http.Cookie{Name: fmt.Sprint("c", i), Value: strings.Repeat("x", 1000)})
		}
		fmt.Fprint(w, r.CookiesNamed("a"), r.CookiesNamed("b"))
	})
	mux.HandleFunc("/own/401", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Www-Authenticate", "Own")
		w.Header().Set("Access-Control-Allow-Origin", "https://h5.example.com")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "own words")
	})
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Uri", r.RequestURI)
		answer, err := json.Marshal(map[string]any{"method": r.Method, "uri": r.RequestURI, "host": r.Host, "body": string(body), "header": r.Header})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(answer)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would redirect paths that are not clean.
		if strings.HasPrefix(r.URL.Path, "/echo") {
			echo(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// over returns the proxy with a client that speaks one protocol.
func (p *proxy) over(t *testing.T, protocol string) *proxy {
	t.Helper()
	transport := &http.Transport{
		DialContext: p.dial, DisableCompression: true, ForceAttemptHTTP2: protocol == "h2",
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: true}, // it is this test's own
		ExpectContinueTimeout: patience,
	}
	t.Cleanup(transport.CloseIdleConnections)
	other := *p
	other.client = &http.Client{Transport: transport, Timeout: patience, CheckRedirect: p.client.CheckRedirect}
	return &other
}

// watched is a body that records whether it was read.
type watched struct {
	io.Reader
	read bool
}

func (w *watched) Read(b []byte) (int, error) {
	w.read = true
	return w.Reader.Read(b)
}

// TestProxiesPassOn checks that each proxy passes the requests of mini-programs and pages
// unchanged.
func TestProxiesPassOn(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	release := make(chan struct{})
	to := w.sites()
	to.api = trafficAPI(t, release)
	token := w.alice.Doc.AccessToken
	for name, p := range w.proxies(h, to) {
		t.Run(name+" a WebSocket", func(t *testing.T) {
			c := p.raw(t, "http/1.1")
			c.dial()
			open := func(token string) *http.Response {
				fmt.Fprintf(c.conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", apiHost, token)
				resp, err := http.ReadResponse(c.reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			resp := open(token)
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-User") != w.alice.Doc.UUID {
				t.Fatalf("status and headers = %s %v, want 101 with the user in X-User", resp.Status, resp.Header)
			}
			for _, text := range []string{"one", "two"} {
				fmt.Fprint(c.conn, text)
				received := make([]byte, len(text))
				if _, err := io.ReadFull(c.reader, received); err != nil || string(received) != text {
					t.Errorf("got %q, error %v", received, err)
				}
			}
			c.hangUp()
			c.dial()
			if resp := open("x"); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("a WebSocket without a valid token gets %s", resp.Status)
			}
		})
		for _, protocol := range p.protocols {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				passesOn(t, p.over(t, protocol), protocol, token, release)
			})
		}
	}
}

func passesOn(t *testing.T, p *proxy, protocol, token string, release chan<- struct{}) {
	t.Helper()
	bearer := func(more ...string) http.Header {
		header := http.Header{"Authorization": {"Bearer " + token}}
		for i := 0; i < len(more); i += 2 {
			header.Add(more[i], more[i+1])
		}
		return header
	}
	var echoed struct {
		Method, URI, Host, Body string
		Header                  http.Header
	}
	echo := func(t *testing.T, method, path, body string, header http.Header) {
		t.Helper()
		echoed.Header = nil
		a := p.must(t, method, apiHost, path, body, header)
		if err := json.Unmarshal([]byte(a.body), &echoed); err != nil || a.status != http.StatusOK {
			t.Errorf("status and body = %d %s, decoding error %v; want 200 and the request", a.status, a.body, err)
		}
	}
	t.Run("every method is passed with its body", func(t *testing.T) {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
			if echo(t, method, "/echo", "a body", bearer()); echoed.Method != method || echoed.Body != "a body" {
				t.Errorf("%s arrives as %+v", method, echoed)
			}
		}
		a := p.must(t, http.MethodHead, apiHost, "/file", "", bearer())
		if a.status != http.StatusOK || a.header.Get("Content-Length") != "10" {
			t.Errorf("HEAD: %d %v", a.status, a.header)
		}
	})
	t.Run("the URL is passed unchanged", func(t *testing.T) {
		for _, uri := range []string{"/echo/a%2Fb//c/%2e%2e/d;v=1?x=%2F&y=a+b&z=%E9%B1%BC", "/echo/?", "/echo?aud=x&app=y&bound=z"} {
			if echo(t, http.MethodGet, uri, "", bearer()); echoed.URI != uri && echoed.URI != strings.TrimSuffix(uri, "?") {
				t.Errorf("%s arrives as %s", uri, echoed.URI)
			}
		}
	})
	t.Run("host, scheme and address are set whatever the client sends", func(t *testing.T) {
		echo(t, http.MethodGet, "/echo", "", bearer("X-Forwarded-Proto", "forged", "X-Forwarded-Host", "forged", "X-Forwarded-For", "203.0.113.1"))
		proto, host := echoed.Header["X-Forwarded-Proto"], echoed.Header["X-Forwarded-Host"]
		// Caddy sends neither header when the client has no address, as on a Unix socket.
		if p.name == "caddy" && proto == nil && host == nil {
			proto, host = []string{"https"}, []string{apiHost}
		}
		if echoed.Host != apiHost || !slices.Equal(proto, []string{"https"}) || !slices.Equal(host, []string{apiHost}) {
			t.Errorf("the back end gets the host %q and the headers %v", echoed.Host, echoed.Header)
		}
	})
	t.Run("large bodies are passed, with a length and in chunks", func(t *testing.T) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
		want := fmt.Sprintf("%d %x <nil>", len(body), sha256.Sum256(body))
		for _, reader := range []io.Reader{bytes.NewReader(body), io.MultiReader(bytes.NewReader(body))} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+apiHost+"/upload", reader)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = bearer()
			resp, err := p.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) != want || err != nil {
				t.Errorf("status = %d, body = %.100s, error %v; want the body %.100s", resp.StatusCode, got, err, want)
			}
		}
	})
	t.Run("a body is sent after 100 Continue", func(t *testing.T) {
		if p.name == "nginx" && protocol == "h2" {
			return // it never sends 100 Continue there, and clients send after a second
		}
		for token, want := range map[string]int{token: http.StatusOK, "x": http.StatusUnauthorized} {
			body := &watched{Reader: strings.NewReader("a body")}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+apiHost+"/upload", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = 6
			req.Header = http.Header{"Authorization": {"Bearer " + token}, "Expect": {"100-continue"}}
			resp, err := p.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			// nginx reads the body of a refused request and discards it.
			if resp.StatusCode != want || p.name != "nginx" && body.read != (want == http.StatusOK) {
				t.Errorf("the answer is %d %s, want %d; body sent: %t", resp.StatusCode, got, want, body.read)
			}
		}
	})
	t.Run("parts of an answer are passed at once", func(t *testing.T) {
		for _, kind := range []string{"text/event-stream", "application/x-ndjson", "application/octet-stream"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+apiHost+"/stream?type="+kind, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = bearer()
			resp, err := p.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(resp.Body)
			first, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: the first part does not arrive: %v", kind, err)
			}
			release <- struct{}{}
			second, err := lines.ReadString('\n')
			resp.Body.Close()
			if first+second != "first\nsecond\n" || err != nil {
				t.Errorf("%s: got %q, error %v", kind, first+second, err)
			}
		}
	})
	t.Run("ranges, encodings, early hints and cookies are passed", func(t *testing.T) {
		if a := p.must(t, http.MethodGet, apiHost, "/file", "", bearer("Range", "bytes=2-4")); a.status != http.StatusPartialContent || a.body != "234" {
			t.Errorf("a range request: GET /file: status and body = %d %s, want 206 234", a.status, a.body)
		}
		if a := p.must(t, http.MethodGet, apiHost, "/file", "", bearer("If-None-Match", `"1"`)); a.status != http.StatusNotModified {
			t.Errorf("a conditional request: GET /file: status and body = %d %s, want 304", a.status, a.body)
		}
		a := p.must(t, http.MethodGet, apiHost, "/gzip", "", bearer("Accept-Encoding", "gzip"))
		z, err := gzip.NewReader(strings.NewReader(a.body))
		if err != nil {
			t.Fatalf("GET /gzip: status and body = %d %q, decoding error %v", a.status, a.body, err)
		}
		if text, err := io.ReadAll(z); string(text) != "packed" || err != nil || a.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("gzip: body %q, error %v", text, err)
		}
		a = p.must(t, http.MethodGet, apiHost, "/cookies", "", bearer("Cookie", "a=1; b=2"))
		if a.status != http.StatusOK || a.body != "[a=1] [b=2]" || len(a.header["Set-Cookie"]) != 12 {
			t.Errorf("cookies: status and body = %d %s with %d cookies, want 200 and 12 cookies", a.status, a.body, len(a.header["Set-Cookie"]))
		}
		// nginx before 1.29 treats early hints as the answer, as its file says.
		if p.name == "nginx" {
			return
		}
		if a := p.must(t, http.MethodGet, apiHost, "/early", "", bearer()); a.status != http.StatusOK || a.body != "late" {
			t.Errorf("early hints: GET /early: status and body = %d %s, want 200 late", a.status, a.body)
		}
	})
	t.Run("a refusal by the back end is passed", func(t *testing.T) {
		a := p.must(t, http.MethodGet, apiHost, "/own/401", "", bearer())
		if a.status != http.StatusUnauthorized || a.body != "own words" || !slices.Equal(a.header["Www-Authenticate"], []string{"Own"}) || !slices.Equal(a.header["Access-Control-Allow-Origin"], []string{"https://h5.example.com"}) {
			t.Errorf("GET /own/401: status, body and headers = %d %s %v, want the back end's own 401", a.status, a.body, a.header)
		}
	})
	t.Run("the proxy answers preflights itself", func(t *testing.T) {
		preflight := http.Header{"Origin": {"https://h5.example.com"}, "Access-Control-Request-Method": {"DELETE"}, "Access-Control-Request-Headers": {"authorization,content-type"}}
		a := p.must(t, http.MethodOptions, apiHost, "/echo", "", preflight)
		if a.status != http.StatusNoContent || a.header.Get("X-Uri") != "" || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Headers") != "authorization,content-type" ||
			!strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "DELETE") || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("OPTIONS /echo: status, body and headers = %d %s %v, want 204 and the CORS headers", a.status, a.body, a.header)
		}
		for _, missing := range []string{"Origin", "Access-Control-Request-Method"} {
			header := preflight.Clone()
			header.Del(missing)
			if a := p.must(t, http.MethodOptions, apiHost, "/echo", "", header); a.status != http.StatusUnauthorized {
				t.Errorf("a preflight without %s: OPTIONS /echo: status and body = %d %s, want 401", missing, a.status, a.body)
			}
		}
		if a := p.must(t, http.MethodPost, apiHost, "/echo", "", preflight); a.status != http.StatusUnauthorized {
			t.Errorf("a preflight with another method: POST /echo: status and body = %d %s, want 401", a.status, a.body)
		}
	})
	t.Run("pages can read refusals", func(t *testing.T) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			for token, code := range map[string]string{"": "token_missing", "x": "token_invalid"} {
				a := p.must(t, method, apiHost, "/echo", "a body", http.Header{"Authorization": {"Bearer " + token}, "Origin": {"https://h5.example.com"}})
				var problem struct {
					Type, Title, Code string
					Status            int
				}
				err := json.Unmarshal([]byte(a.body), &problem)
				if err != nil || a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "application/problem+json" ||
					problem.Type != "urn:yufu:problem:"+code || problem.Code != code || problem.Status != a.status || problem.Title == "" {
					t.Errorf("status, body and headers = %d %s %v, decoding error %v; want 401 %s", a.status, a.body, a.header, err, code)
				}
				for name, want := range map[string]string{"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*", "X-Yufu-Uuid": ""} {
					if got := a.header.Get(name); got != want {
						t.Errorf("the header %s is %q, want %q", name, got, want)
					}
				}
				if got := a.header["Www-Authenticate"]; len(got) != 1 || !strings.HasPrefix(got[0], `Bearer realm="yufu"`) {
					t.Errorf("WWW-Authenticate is %q", got)
				}
			}
		}
	})
	t.Run("answers have Strict-Transport-Security", func(t *testing.T) {
		for _, a := range []answered{
			p.must(t, http.MethodGet, apiHost, "/echo", "", bearer()), p.must(t, http.MethodGet, apiHost, "/echo", "", nil),
			p.must(t, http.MethodOptions, apiHost, "/echo", "", http.Header{"Origin": {"https://x.example"}, "Access-Control-Request-Method": {"GET"}}),
			p.must(t, http.MethodGet, authHost, "/v1/me", "", bearer()), p.must(t, http.MethodGet, authHost, "/none", "", nil),
		} {
			if got := a.header["Strict-Transport-Security"]; !slices.Equal(got, []string{"max-age=31536000"}) {
				t.Errorf("status %d: Strict-Transport-Security is %q", a.status, got)
			}
		}
	})
}
