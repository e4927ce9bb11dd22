package e2e

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// mark is in all refused input. No answer and no log line may contain it.
const mark = "neverToBeSeenAgain0123456789"

const formType = "Content-Type: application/x-www-form-urlencoded\r\n"

// raw returns the text of a request. Each header ends with CRLF.
func raw(method, target, headers, body string) string {
	if body != "" && !strings.Contains(headers, "Transfer-Encoding") {
		headers += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return method + " " + target + " HTTP/1.1\r\nHost: auth.example.com\r\n" + headers + "\r\n" + body
}

// postForm returns the text of a request to the token endpoint.
func postForm(body string) string { return raw("POST", "/oauth2/token", formType, body) }

// getMe returns the text of a request to /v1/me.
func getMe(headers string) string { return raw("GET", "/v1/me", headers, "") }

// chunked returns a body as one chunk.
func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

const isChunked = "Transfer-Encoding: chunked\r\n"

// badInput is a malformed or unusual request with the expected answer.
type badInput struct {
	name, send string
	status     int
	// code is empty for answers of net/http, before any of our code.
	code string
	// open: the connection stays open and serves the next request.
	open bool
}

func badForms() []badInput {
	refresh := "grant_type=refresh_token&client_id=" + testApp + "&refresh_token=" + mark
	exchange := "grant_type=urn%3Ayufu%3Agrant-type%3Amini-program-code&client_id=" + testApp + "&code=" + mark
	big := refresh + strings.Repeat("x", 1<<20)
	ct := func(t string) string { return raw("POST", "/oauth2/token", t, refresh) }
	return []badInput{
		{"a repeated parameter", postForm(refresh + "&refresh_token=x"), 400, "invalid_request", true},
		{"a repeated parameter, once escaped", postForm(refresh + "&refresh%5Ftoken=x"), 400, "invalid_request", true},
		{"a repeated unknown parameter", postForm(refresh + "&x=1&x=2"), 400, "invalid_request", true},
		{"parameters in the URL", raw("POST", "/oauth2/token?"+refresh, formType, refresh), 400, "invalid_request", true},
		{"no Content-Type", ct(""), 415, "unsupported_media_type", true},
		{"an empty Content-Type", ct("Content-Type: \r\n"), 415, "unsupported_media_type", true},
		{"JSON", ct("Content-Type: application/json\r\n"), 415, "unsupported_media_type", true},
		{"multipart", ct("Content-Type: multipart/form-data; boundary=" + mark + "\r\n"), 415, "unsupported_media_type", true},
		{"another charset", ct("Content-Type: application/x-www-form-urlencoded; charset=gbk\r\n"), 415, "unsupported_media_type", true},
		{"two Content-Types", ct(formType + "Content-Type: application/json\r\n"), 415, "unsupported_media_type", true},
		{"1 MiB", postForm(big), 413, "body_too_large", false},
		{"1 MiB in chunks", raw("POST", "/oauth2/token", formType+isChunked, chunked(big)), 413, "body_too_large", false},
		{"1 MiB of another type", raw("POST", "/oauth2/token", "", big), 415, "unsupported_media_type", false},
		{"1 MiB for a request without a body", raw("GET", "/v1/me", "", big), 401, "token_missing", false},
		{"a Content-Length of terabytes", raw("POST", "/oauth2/token", formType+"Content-Length: 1000000000000000\r\n", ""), 413, "body_too_large", false},
		{"17 KiB", postForm(refresh + strings.Repeat("x", 17<<10)), 413, "body_too_large", false},
		{"a NUL", postForm(refresh + "\x00"), 400, "invalid_request", true},
		{"an escaped NUL", postForm(refresh + "%00"), 400, "invalid_request", true},
		{"bytes that are not UTF-8", postForm(refresh + "\xff\xfe"), 400, "invalid_request", true},
		{"escaped bytes that are not UTF-8", postForm(refresh + "%C0%AF"), 400, "invalid_request", true},
		{"a truncated escape", postForm(refresh + "%4"), 400, "invalid_request", true},
		{"semicolons", postForm(strings.ReplaceAll(refresh, "&", ";")), 400, "invalid_request", true},
		{"no body", postForm(""), 400, "invalid_request", true},
		{"binary", postForm("\x1f\x8b\x08\x00" + mark), 400, "invalid_request", true},
		{"no grant", postForm("client_id=" + mark), 400, "invalid_request", true},
		{"an unknown grant", postForm("grant_type=" + mark + "&client_id=" + mark), 400, "unsupported_grant_type", true},
		{"a grant of 10 kB", postForm("grant_type=" + strings.Repeat(mark, 350)), 400, "unsupported_grant_type", true},
		{"a grant of another server", postForm("grant_type=authorization_code&code=" + mark), 400, "unsupported_grant_type", true},
		{"a malformed client_id", postForm("grant_type=" + codeGrant + "&code=x&client_id=" + mark + "%0A'--"), 401, "app_unknown", true},
		{"a client of 10 kB", postForm("grant_type=" + codeGrant + "&code=x&client_id=" + strings.Repeat(mark, 350)), 401, "app_unknown", true},
		{"a malformed code", postForm(exchange + "%20"), 400, "code_invalid", true},
		{"a code that would add parameters", postForm(exchange + "%26secret%3Dx"), 400, "code_invalid", true},
		{"a code of 10 kB", postForm(exchange + strings.Repeat("x", 10<<10)), 400, "code_invalid", true},
		{"a device label of 10 kB", postForm(exchange + "&device=" + strings.Repeat("x", 10<<10)), 400, "invalid_request", true},
		{"a device label of 65 characters", postForm(exchange + "&device=" + strings.Repeat("%E9%B1%BC", 65)), 400, "invalid_request", true},
		{"a device label with control characters", postForm(exchange + "&device=" + mark + "%1B%5B31m"), 400, "invalid_request", true},
		{"a device label with a line break", postForm(exchange + "&device=" + mark + "%0D%0Ax"), 400, "invalid_request", true},
		{"a device label with a direction override", postForm(exchange + "&device=" + mark + "%E2%80%AE"), 400, "invalid_request", true},
		{"a device label with a NUL", postForm(exchange + "&device=" + mark + "%00"), 400, "invalid_request", true},
		{"a malformed refresh token", postForm(refresh), 400, "refresh_invalid", true},
		{"a refresh token of 10 kB", postForm(refresh + strings.Repeat("x", 10<<10)), 400, "refresh_invalid", true},
		{"a refresh token of line breaks", postForm(refresh + "%0A"), 400, "refresh_invalid", true},
		{"a revocation without a token", raw("POST", "/oauth2/revoke", formType, "client_id="+mark), 400, "invalid_request", true},
		{"a revocation of a malformed token", raw("POST", "/oauth2/revoke", formType, "client_id="+testApp+"&token="+mark), 200, "", true},
		{"a revocation without a client_id", raw("POST", "/oauth2/revoke", formType, "token="+mark), 400, "invalid_request", true},
	}
}

func badAddresses() []badInput {
	inputs := []badInput{
		{"GET of an unknown address", raw("GET", "/"+mark, "", ""), 404, "not_found", true},
		{"an unknown method of an unknown address", raw("BREW", "/"+mark, "", ""), 404, "not_found", true},
		{"an escaped address", raw("GET", "/v1/%6De", "", ""), 404, "not_found", true},
		{"an escaped slash", raw("GET", "/v1%2Fme", "", ""), 404, "not_found", true},
		{"escaped dots", raw("GET", "/x/%2e%2e/v1/me", "", ""), 404, "not_found", true},
		{"dots", raw("GET", "/x/../v1/me", "", ""), 404, "not_found", true},
		{"two slashes", raw("GET", "//v1/me", "", ""), 404, "not_found", true},
		{"a trailing slash", raw("GET", "/v1/me/", "", ""), 404, "not_found", true},
		{"a NUL in the address", raw("GET", "/v1/me%00", "", ""), 404, "not_found", true},
		{"a parameter in the path", raw("GET", "/v1/me;x="+mark, "", ""), 404, "not_found", true},
		{"a malformed escape", raw("GET", "/%zz"+mark, "", ""), 400, "", false},
		{"a malformed escape in the query", raw("GET", "/v1/me?%zz"+mark, "", ""), 401, "token_missing", true},
		{"an address of 10 KiB", raw("GET", "/"+strings.Repeat("x", 10<<10), "", ""), 404, "not_found", true},
		{"an address of 64 KiB", raw("GET", "/"+strings.Repeat("x", 64<<10), "", ""), 431, "", false},
		{"an empty address", raw("GET", mark, "", ""), 400, "", false},
		{"an absolute address", raw("GET", "http://elsewhere.example/v1/me", "", ""), 401, "token_missing", true},
		{"an absolute address of another scheme", raw("GET", "gopher://elsewhere.example/"+mark, "", ""), 404, "not_found", true},
		{"a tunnel", raw("CONNECT", "elsewhere.example:443", "", ""), 404, "not_found", true},
		{"a tunnel to an endpoint", raw("CONNECT", "/v1/me", "", ""), 405, "method_not_allowed", true},
		{"TRACE", raw("TRACE", "/v1/me", "X-Mark: "+mark+"\r\n", ""), 405, "method_not_allowed", true},
		{"OPTIONS for all", raw("OPTIONS", "*", "", ""), 404, "not_found", true},
		{"a star", raw("GET", "*", "", ""), 404, "not_found", true},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, "not_found", false},
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW", "get", "P0ST"} {
		inputs = append(inputs, badInput{method + " on the token endpoint", raw(method, "/oauth2/token", "", ""), 405, "method_not_allowed", true})
	}
	return inputs
}

func badCredentials() []badInput {
	bearer := func(token string) string { return getMe("Authorization: Bearer " + token + "\r\n") }
	basic := func(header string) string {
		return raw("POST", "/oauth2/token", formType+"Authorization: "+header+"\r\n", "grant_type=refresh_token&refresh_token="+mark)
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	header := base64.RawURLEncoding.EncodeToString
	return []badInput{
		{"no token", getMe(""), 401, "token_missing", true},
		{"Basic instead of a token", getMe("Authorization: Basic " + b64(testApp+":"+mark) + "\r\n"), 401, "token_missing", true},
		{"Bearer without a token", getMe("Authorization: Bearer\r\n"), 401, "token_missing", true},
		{"Bearer with only white space", getMe("Authorization: Bearer   \r\n"), 401, "token_missing", true},
		{"two tokens", getMe("Authorization: Bearer x\r\nAuthorization: Bearer " + mark + "\r\n"), 400, "invalid_request", true},
		{"a token in the URL", raw("GET", "/v1/me?access_token="+mark, "", ""), 400, "invalid_request", true},
		{"a malformed token", bearer(mark), 401, "token_invalid", true},
		{"a token of two words", bearer("a " + mark), 401, "token_invalid", true},
		{"a token that is not ASCII", bearer(mark + "\xe9\xb1\xbc"), 401, "token_invalid", true},
		{"a token of 12 KiB", bearer(strings.Repeat("x", 12<<10)), 401, "token_invalid", true},
		{"a token of dots", bearer(strings.Repeat(".", 2000)), 401, "token_invalid", true},
		{"an unsigned token", bearer(header([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + header([]byte(`{"sub":"`+mark+`"}`)) + "."), 401, "token_invalid", true},
		{"a refresh token instead of an access token", bearer("yfr_" + strings.Repeat("A", 60)), 401, "token_invalid", true},
		{"Basic that is not base64", basic("Basic !" + mark), 400, "invalid_request", true},
		{"Basic without a colon", basic("Basic " + b64(mark)), 400, "invalid_request", true},
		{"Basic with a secret", basic("Basic " + b64(testApp+":"+mark)), 401, "client_secret_unexpected", true},
		{"Basic with malformed escapes", basic("Basic " + b64(mark+"%zz:")), 400, "invalid_request", true},
		{"Basic with a NUL", basic("Basic " + b64(mark+"%00:")), 400, "invalid_request", true},
		{"Basic without a client_id", basic("Basic " + b64(":")), 400, "invalid_request", true},
		{"a repeated Basic header", basic("Basic " + b64(testApp+":") + "\r\nAuthorization: Basic " + b64(mark+":")), 400, "invalid_request", true},
		{"Basic without credentials", basic("Basic"), 400, "invalid_request", true},
		{"Bearer instead of Basic", basic("Bearer " + mark), 400, "invalid_request", true},
		{"an empty Authorization", basic(""), 400, "invalid_request", true},
	}
}

func badFraming() []badInput {
	get := func(headers string) string { return raw("GET", "/.well-known/jwks.json", headers, "") }
	chunks := func(headers, body string) string {
		return raw("POST", "/oauth2/token", formType+isChunked+headers, body)
	}
	form := "client_id=" + mark
	smuggled := getMe("X-Mark: " + mark + "\r\n")
	return []badInput{
		{"HTTP/1.0 with a Host", "GET /.well-known/jwks.json HTTP/1.0\r\nHost: auth.example.com\r\n\r\n", 200, "", false},
		{"HTTP/1.0 without a Host", "GET /.well-known/jwks.json HTTP/1.0\r\n\r\n", 200, "", false},
		{"HTTP/1.0 with keep-alive", "GET /.well-known/jwks.json HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + smuggled, 200, "", false},
		{"HTTP/1.0 with chunks", "POST /oauth2/token HTTP/1.0\r\nConnection: keep-alive\r\n" + formType + isChunked + "\r\n" + chunked(form), 400, "invalid_request", false},
		{"HTTP/1.1 without a Host", "GET / HTTP/1.1\r\n\r\n", 400, "", false},
		{"two Hosts", get("Host: elsewhere.example\r\n"), 400, "", false},
		{"a malformed Host", "GET / HTTP/1.1\r\nHost: " + mark + "/\x7f\r\n\r\n", 400, "", false},
		{"HTTP/0.9", "GET /\r\n\r\n", 400, "", false},
		{"HTTP/3.0", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, "", false},
		{"a malformed HTTP version", "GET / " + mark + "\r\nHost: x\r\n\r\n", 400, "", false},
		{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + mark + "\r\n\r\n", 400, "", false},
		{"another protocol", "SSH-2.0-" + mark + "\r\n\r\n", 400, "", false},
		{"line ends without CR", strings.ReplaceAll(getMe(""), "\r\n", "\n"), 401, "token_missing", true},
		{"a folded header", getMe("Authorization: Bearer\r\n " + mark + "\r\n"), 401, "token_invalid", true},
		{"a folded first header", "GET / HTTP/1.1\r\n Host: " + mark + "\r\n\r\n", 400, "", false},
		{"a header without a colon", get(mark + "\r\n"), 400, "", false},
		{"a header without a name", get(": " + mark + "\r\n"), 400, "", false},
		{"a header with a space before its colon", get("Content-Length : 5\r\n"), 400, "", false},
		{"a header whose name is not ASCII", get(mark + "\xe9\xb1\xbc: x\r\n"), 400, "", false},
		{"a header with a NUL", get("X-Mark: " + mark + "\x00\r\n"), 400, "", false},
		{"a header of 32 KiB", get("X-Mark: " + strings.Repeat(mark, 1200) + "\r\n"), 431, "", false},
		{"5,000 headers", get(strings.Repeat("X-Mark: "+mark+"\r\n", 5000)), 431, "", false},
		{"500 headers", get(strings.Repeat("X: y\r\n", 500)), 200, "", true},
		{"two lengths", raw("POST", "/oauth2/token", formType+"Content-Length: 3\r\n", form), 400, "", false},
		{"a negative length", raw("POST", "/oauth2/token", formType+"Content-Length: -1\r\n", ""), 400, "", false},
		{"a signed length", raw("POST", "/oauth2/token", formType+"Content-Length: +1\r\n", ""), 400, "", false},
		{"a length in words", raw("POST", "/oauth2/token", formType+"Content-Length: "+mark+"\r\n", ""), 400, "", false},
		{"a length and chunks", chunks("Content-Length: 10\r\n", chunked(form)+smuggled), 400, "invalid_request", false},
		{"a length and no chunks", chunks("Content-Length: "+strconv.Itoa(len(smuggled)+5)+"\r\n", "0\r\n\r\n"+smuggled), 400, "invalid_request", false},
		{"data after the chunks", chunks("", chunked(form)+smuggled), 400, "invalid_request", false},
		{"chunked twice", chunks(isChunked, chunked(form)), 501, "", false},
		{"another transfer coding", raw("POST", "/oauth2/token", formType+"Transfer-Encoding: gzip, chunked\r\n", chunked(form)), 501, "", false},
		{"a transfer coding that looks like chunked", raw("POST", "/oauth2/token", formType+"Transfer-Encoding: xchunked\r\n", chunked(form)), 501, "", false},
		{"a chunk without end", chunks("", "FFFFFFFFFFFFFFFFF\r\n"+form), 400, "invalid_request", false},
		{"a chunk of a negative size", chunks("", "-1\r\n"+form), 400, "invalid_request", false},
		{"a chunk whose size ends without CR", chunks("", "2\nab\n0\n\n"), 400, "invalid_request", false},
		{"a chunk longer than its size", chunks("", "2\r\nabcdef\r\n0\r\n\r\n"), 400, "invalid_request", false},
		{"a chunk with an extension of 64 KiB", chunks("", "2;"+strings.Repeat("x", 64<<10)+"\r\nab\r\n0\r\n\r\n"), 400, "invalid_request", false},
		{"trailers", chunks("Trailer: X-Mark\r\n", "2\r\nab\r\n0\r\nX-Mark: "+mark+"\r\n\r\n"), 400, "invalid_request", false},
		{"a length in the trailers", chunks("Trailer: Content-Length\r\n", "2\r\nab\r\n0\r\nContent-Length: 2\r\n\r\n"), 400, "", false},
		{"trailers of 64 KiB", chunks("Trailer: X-Mark\r\n", "2\r\nab\r\n0\r\nX-Mark: "+strings.Repeat("x", 64<<10)+"\r\n\r\n"), 400, "invalid_request", false},
		{"an unknown expectation", get("Expect: " + mark + "\r\n"), 417, "", false},
		{"a body that waits for 100 Continue", raw("POST", "/oauth2/token", formType+"Expect: 100-continue\r\n", form), 400, "invalid_request", true},
		{"a body that is too large and waits for 100 Continue", raw("POST", "/oauth2/token", formType+"Expect: 100-continue\r\nContent-Length: 1048576\r\n", ""), 413, "body_too_large", false},
		{"an upgrade to WebSocket", getMe("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"), 401, "token_missing", true},
		{"an upgrade to HTTP/2", getMe("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"), 401, "token_missing", true},
		{"headers that only a proxy may send", getMe("X-Forwarded-For: " + mark + "\r\nX-Request-Id: " + mark + "\r\nX-Original-URL: /" + mark + "\r\n"), 401, "token_missing", true},
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.secret("what it was sent", mark)
	d := deploy(h, pgtest.Empty(t))
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	for what, inputs := range map[string][]badInput{
		"in a form": badForms(), "in an address": badAddresses(), "in credentials": badCredentials(), "on the wire": badFraming(),
	} {
		t.Run(what, func(t *testing.T) {
			for _, in := range inputs {
				t.Run(in.name, func(t *testing.T) { in.run(s.in(t)) })
			}
		})
	}
	if n := d.sim.timesSent(mark); n != 0 {
		t.Errorf("a malformed request was sent to WeChat %d times", n)
	}
	s.logIn("alice") // the service still works
	p.wantHealthy()
}

func (in *badInput) run(s *service) {
	w, err := s.dial()
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.close()
	method, _, _ := strings.Cut(in.send, " ")
	if err := w.send(in.send); err != nil {
		s.t.Fatal(err)
	}
	a, err := w.answer(method, in.name)
	if err != nil {
		s.t.Fatalf("the service does not answer: %v", err)
	}
	if a.Status != in.status || method != "HEAD" && a.code() != in.code {
		s.t.Errorf("the answer is %d %q, want %d %q: %s", a.Status, a.code(), in.status, in.code, a.Body)
	}
	if in.code != "" {
		a.wantOurs(s)
	}
	if in.status == 405 && a.Header.Get("Allow") == "" {
		s.t.Error("the answer has no Allow header")
	}
	if !in.open {
		if err := w.closed(); err != nil {
			s.t.Error(err)
		}
		return
	}
	if err := w.send(raw("GET", "/.well-known/jwks.json", "", "")); err != nil {
		s.t.Fatal(err)
	}
	if a, err := w.answer("GET", "what follows"); err != nil || a.Status != 200 {
		s.t.Errorf("the next request on the connection: answer %+v, error %v", a, err)
	}
}

// wantOurs checks an error for the members and headers that all our errors have.
func (a *answer) wantOurs(s *service) {
	s.t.Helper()
	if id := a.Header.Get("X-Request-Id"); id == "" || a.Body != "" && a.Doc.RequestID != id {
		s.t.Errorf("request_id is %q, X-Request-Id is %q", a.Doc.RequestID, id)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		s.t.Errorf("Cache-Control is %q, want no-store", got)
	}
	want := "application/problem+json"
	if a.Doc.ErrorCode != "" {
		want = "application/json"
	}
	if got := a.Header.Get("Content-Type"); a.Body != "" && got != want {
		s.t.Errorf("Content-Type is %q, want %q", got, want)
	}
}

// wantHealthy fails the test if the process has ended, panicked or logged an error.
func (p *process) wantHealthy() {
	p.h.t.Helper()
	select {
	case <-p.exited:
		p.h.t.Errorf("%s has ended: exit code %d", p.name, p.code)
	default:
	}
	for line := range strings.Lines(p.stderr.String()) {
		if strings.Contains(line, "panic") || strings.Contains(line, `"level":"ERROR"`) {
			p.h.t.Errorf("the log of %s has an error: %s", p.name, line)
		}
	}
}
