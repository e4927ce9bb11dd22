package apitest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Transport is an [http.RoundTripper] that checks the traffic with the hosts given to
// [Transport.Watch] against the contract. Traffic with other hosts passes unchecked. It
// is safe for concurrent use.
type Transport struct {
	tb       testing.TB
	base     http.RoundTripper
	contract *Contract

	mu      sync.Mutex
	watched map[string]Listener
}

// NewTransport returns a transport that fails tb for each violation. Its requests must
// end before tb. A nil base is [http.DefaultTransport].
func NewTransport(tb testing.TB, base http.RoundTripper) *Transport {
	tb.Helper()
	contract, err := Load()
	if err != nil {
		tb.Fatal(err)
	}
	if base == nil {
		base = http.DefaultTransport
	}
	return &Transport{tb: tb, base: base, contract: contract, watched: map[string]Listener{}}
}

// Watch makes the transport check all traffic with the host of baseURL, which is the
// given listener of the program.
func (t *Transport) Watch(baseURL string, l Listener) {
	t.tb.Helper()
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" {
		t.tb.Fatalf("%q is not the address of a listener: %v", baseURL, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watched[u.Host] = l
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.mu.Lock()
	l, watched := t.watched[req.URL.Host]
	t.mu.Unlock()
	if !watched {
		return t.base.RoundTrip(req)
	}
	var sent []byte
	if req.Body != nil {
		var err error
		sent, err = io.ReadAll(req.Body)
		if err = errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, nil // a stream has no end
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // the body was read to its end
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	// A truncated answer is for the client to judge.
	if err == nil {
		if violation := t.contract.Check(l, req, sent, resp, body); violation != nil {
			t.tb.Errorf("%s %s: the answer %d violates openapi.yaml: %v\n%s", req.Method, req.URL.Path, resp.StatusCode, violation, body)
		}
	}
	return resp, nil
}

// CloseIdleConnections closes the idle connections of the base transport.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// failing is a reader that returns only an error, or io.EOF for a nil error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}
